"""The share of the time in which the device is busy, as its driver counts it."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

_QUERY = ["--query-gpu=timestamp,utilization.gpu", "--format=csv,noheader,nounits"]
Samples = list[tuple[float, float]]


@contextmanager
def sampled(file: Path) -> Iterator[None]:
    """Have the driver add a line to ``file`` twice a second; nothing where there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as out:
        child = subprocess.Popen(
            [tool, *_QUERY, "--id=0", "--loop-ms=500"], stdout=out, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            child.terminate()
            child.wait()


def samples(file: Path) -> Samples:
    """Time, seconds since 1970, and busy share of the last interval."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = []
    for line in lines:
        time, _, percent = line.partition(",")
        try:
            when = datetime.strptime(time.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            found.append((when, float(percent) / 100))
        except ValueError:  # a line cut short, or [N/A]
            continue
    return found


def gpu_name() -> str | None:
    """What the driver calls the GPU; None without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    words = [tool, "--query-gpu=name", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
