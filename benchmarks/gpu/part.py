"""One part of the campaign: commands in processes of their own, within a time limit."""

import functools
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kdpose

STOPPED = 143  # the status of a command that SIGTERM ended
_GRACE = 60.0  # seconds in which a training writes its checkpoint
_PACE = "+callbacks.pace={_target_: benchmarks.gpu.pace.Pace}"
_OWN = (
    "benchmarks/gpu/",
    "benchmarks/reliability/",
    "conf/what/gpu",
)  # figures do not depend on it


@dataclass(frozen=True)
class Places:
    """Where the campaign works.

    Attributes:
        folder: data, runs, compiled code, logs.
        results: what is kept in the end.
    """

    folder: Path
    results: Path

    @property
    def data(self) -> Path:
        """The data sets, by name."""
        return self.folder / "data"


@dataclass(frozen=True)
class Part:
    """A part of the campaign.

    Attributes:
        name: a short one.
        title: what it measures.
        minutes: that it is expected to take.
        least: the fewest minutes that it is started with; fewer than all only of trainings, which
            continue.
        commands: words of each, without ``kdpose``.
        spec: hash of the commands, without places.
    """

    name: str
    title: str
    minutes: float
    least: float
    commands: tuple[tuple[str, ...], ...]
    spec: str

    @classmethod
    def read(cls, name: str, values: Mapping[str, Any], here: Places) -> "Part":
        """A part of the configuration.

        Args:
            name: its key.
            values: its fields; ``commands`` as lines, with ``{data}``, ``{folder}`` and
                ``{results}``, and ``more``, words that all but packs get besides.
            here: what these stand for.
        """
        places = {"data": here.data, "folder": here.folder, "results": here.results}
        lines = [_words(line, values.get("more") or []) for line in values["commands"]]
        commands = tuple(tuple(_filled(word, places) for word in words) for words in lines)
        minutes = float(values["minutes"])
        least = float(values.get("least") or minutes)
        spec = hashlib.sha256(json.dumps(lines).encode()).hexdigest()
        return cls(name, str(values["title"]), minutes, least, commands, spec)

    @property
    def key(self) -> str:
        """Tells the part of one code and configuration from that of another."""
        return hashlib.sha256(f"{self.spec} {code_hash()}".encode()).hexdigest()[:12]

    @property
    def runs(self) -> str:
        """Name of the folder of its runs, which depends on the configuration alone."""
        return f"{self.name}-{self.spec[:8]}"


def _words(line: str, more: Sequence[str]) -> list[str]:
    """A command's words; a pack is of the data alone, and gets no more."""
    words = shlex.split(line)
    words += [] if words[0] == "pack" else more
    return words + ([_PACE] if words[0] == "train" else [])


def _filled(word: str, places: Mapping[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace(f"{{{name}}}", str(path))
    return word


@functools.cache
def code_hash() -> str:
    """SHA-256 of the code and configuration that figures depend on; a copy need be no checkout."""
    root = Path(kdpose.__file__).parents[1]
    files = [
        file for name in ("kdpose", "benchmarks", "conf") for file in (root / name).rglob("*.*")
    ]
    found = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(root).as_posix()
        if file.suffix in (".py", ".yaml") and not name.startswith(_OWN):
            found.update(name.encode() + file.read_bytes())
    return found.hexdigest()


def environment(part: Part, here: Places) -> dict[str, str]:
    """The variables of a part's commands: its data and runs, and one cache of compiled code."""
    compiled = here.folder / "compiled"
    return {
        **os.environ,
        "KDPOSE_DATA": str(here.data),
        "KDPOSE_RUNS": str(here.folder / "runs" / part.runs),
        "TORCHINDUCTOR_CACHE_DIR": str(compiled),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TRITON_CACHE_DIR": str(compiled / "triton"),
        "PYTHONUNBUFFERED": "1",
    }


def run_command(
    words: Sequence[str], variables: Mapping[str, str], log: Path, deadline: float
) -> int:
    """Run a command until it ends or the time is over.

    A pack that is there is whole, and is not written again.

    Args:
        words: of the command, without ``kdpose``.
        variables: of its environment.
        log: what it says is added to this file.
        deadline: of ``time.monotonic()``; a training then writes a checkpoint.

    Returns:
        Its exit status, :data:`STOPPED` if the time was over.
    """
    if words[0] == "pack" and any(_is_folder(word) for word in words):
        return 0
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"\n$ kdpose {shlex.join(words)}\n".encode())
        file.flush()
        child = subprocess.Popen(
            [sys.executable, "-m", f"kdpose.{words[0]}", *words[1:]],
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            return child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return STOPPED
        finally:
            _end(child)


def _is_folder(word: str) -> bool:
    return word.startswith("out=") and Path(word.removeprefix("out=")).is_dir()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Have a process end, also when this one is stopped."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def last_line(log: Path) -> str:
    """What a command said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else ""
