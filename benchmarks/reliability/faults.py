"""Faults of machines, each made once: what a user meets, and what is left."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from benchmarks.reliability.commands import Ended, Running, file_limit, run
from benchmarks.reliability.records import Records
from benchmarks.reliability.targets import outcome, prepare, targets, words

_FULL = 400_000  # bytes; a checkpoint of the targets that can be resumed is larger
_STOPPED = 4.0  # seconds for which a data worker does nothing
Found = tuple[str, str]  # what is wrong, or nothing; what the command said


def make_all(records: Records, folder: Path, count: int) -> None:
    """Make each of the first faults that was not made before.

    Args:
        records: of the campaign.
        folder: for the data and the runs.
        count: of faults.
    """
    if count:
        prepare(folder)
    for name, make in list(_FAULTS.items())[:count]:
        if records.has("faults", name):
            continue
        here = folder / "faults"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        fault, said = make(folder, here)
        records.add("faults", name, {"fault": fault, "said": said})


def _start(
    folder: Path,
    out: Path,
    *more: str,
    name: str = "teacher",
    again: bool = False,
    hook: Callable[[], object] | None = None,
) -> Running:
    target = targets(folder)[name]
    given = [*words(target, out, again), *more]
    return Running(target.command, given, out.with_name("logs"), hook)


def _equal(folder: Path, here: Path, out: Path, name: str, *more: str) -> str:
    """Whether a run's result is that of an undisturbed one."""
    whole = here / "undisturbed"
    done = _start(folder, whole, *more, name=name).wait()
    if done.code:
        return f"the undisturbed run failed: {done.last_line}"
    return "" if outcome(whole, name) == outcome(out, name) else "the result is different"


def _one_line(done: Ended) -> str:
    """What is wrong with how a command failed."""
    if done.late:
        return "it hung"
    if done.traceback:
        return "a traceback"
    return "" if done.code == 1 else f"status {done.code} instead of 1"


def _to_worker(act: Callable[[psutil.Process], object]) -> Callable[[], None]:
    """A hook: once this process has a data worker, do something to it."""

    def watch() -> None:
        me = psutil.Process()
        while not (workers := me.children()):
            time.sleep(0.01)
        time.sleep(0.3)
        act(workers[0])

    return lambda: threading.Thread(target=watch, daemon=True).start()


def _worker_killed(folder: Path, here: Path) -> Found:
    out = here / "run"
    two = "data.num_workers=1"
    hook = _to_worker(lambda worker: worker.kill())
    done = _start(folder, out, two, hook=hook).wait()
    fault = _one_line(done) if done.code else "it went on without the worker"
    last = _start(folder, out, two, again=True).wait()
    if last.code:
        return fault or "the repeated command failed", last.last_line
    return fault or _equal(folder, here, out, "teacher", two), done.last_line


def _worker_stopped(folder: Path, here: Path) -> Found:
    def stop(worker: psutil.Process) -> None:
        worker.suspend()
        time.sleep(_STOPPED)
        worker.resume()

    out = here / "run"
    done = _start(folder, out, "data.num_workers=1", hook=_to_worker(stop)).wait()
    if done.code:
        return "it failed", done.last_line
    return _equal(folder, here, out, "teacher", "data.num_workers=1"), "trained"


def _fifo(folder: Path, here: Path) -> Found:
    """A picture whose reading would never end, among others."""
    shutil.copytree(folder / "data/images", here / "images")
    os.mkfifo(here / "images" / "zzz.jpg")
    more = [f"source={here}/images", "boxes=whole"]
    done = _start(folder, here / "run", *more, name="predict").wait(60)
    if done.late or done.code or done.traceback:
        return "it hung" if done.late else f"status {done.code}", done.last_line
    named = "zzz.jpg" in done.said or "skipped" in done.said
    return "" if named else "the FIFO is not named", done.last_line


def _full_disk(folder: Path, here: Path, name: str, size: int) -> Found:
    """The disk is full from the first or a later checkpoint on, and then it is not."""
    out = here / "run"
    done = _start(folder, out, name=name, hook=file_limit(size)).wait()
    fault = _one_line(done)
    parts = [p.name for p in out.rglob("*.part*") if p.name != "predictions.part.jsonl"]
    fault = fault or (f"{parts[0]} is left" if parts else "")
    last = _start(folder, out, name=name, again=True).wait()
    if last.code:
        return fault or "the repeated command failed", last.last_line
    return fault or _equal(folder, here, out, name), done.last_line


def _not_finite(folder: Path, here: Path) -> Found:
    out = here / "run"
    done = _start(folder, out, "optimizer.lr=1e38").wait()
    return _one_line(done), done.last_line


def _two_trainings(folder: Path, here: Path) -> Found:
    out = here / "run"
    first = _start(folder, out)
    lock = ".synthetic_teacher.lock"
    while not (out / lock).exists() and psutil.pid_exists(first.pid):
        time.sleep(0.01)
    second = _start(folder, out, again=True).wait()
    done = first.wait()
    if done.code:
        return "the first failed", done.last_line
    return _one_line(second) or _equal(folder, here, out, "teacher"), second.last_line


def _two_searches(folder: Path, here: Path) -> Found:
    out = here / "run"
    both = [_start(folder, out, name="search") for _ in range(2)]
    ends = [one.wait(240) for one in both]
    bad = [end for end in ends if end.code or end.traceback]
    if bad:
        return f"status {bad[0].code}", bad[0].last_line
    found = outcome(out, "search")
    return "" if found == {"complete": 2} else f"trials: {found}", ends[0].last_line


def _two_students(folder: Path, here: Path) -> Found:
    """Two students learn from one teacher's file at the same time."""
    outs = [here / "run", here / "undisturbed"]
    both = [_start(folder, out, name="stage 1") for out in outs]
    ends = [one.wait() for one in both]
    if any(end.code for end in ends):
        return "one failed", " ".join(end.last_line for end in ends)
    first, second = (outcome(out, "stage 1") for out in outs)
    return "" if first == second else "the results are different", ends[0].last_line


def _two_predictions(folder: Path, here: Path) -> Found:
    """Two processes write into one folder; either one is refused or both give the same."""
    out = here / "run"
    both = [_start(folder, out, name="predict") for _ in range(2)]
    ends = [one.wait() for one in both]
    if any(end.traceback or end.late or end.code not in (0, 1) for end in ends):
        return "a traceback or a hang", " ".join(end.last_line for end in ends)
    if all(end.code for end in ends):
        return "both failed", ends[0].last_line
    return _equal(folder, here, out, "predict"), " / ".join(end.last_line for end in ends)


def _stopped_group(folder: Path, here: Path) -> Found:
    """SIGINT to a training with data workers, as from a keyboard."""
    out = here / "run"
    running = _start(folder, out, "data.num_workers=1")
    time.sleep(4.0)
    running.send(signal.SIGINT)
    done = running.wait()
    if done.traceback or done.code not in (130, 0):
        return f"status {done.code}" + ", a traceback" * done.traceback, done.last_line
    last = run("train", [*words(targets(folder)["teacher"], out, True), "data.num_workers=1"], here)
    if last.code:
        return "the repeated command failed", last.last_line
    return _equal(folder, here, out, "teacher", "data.num_workers=1"), done.last_line


_FAULTS: dict[str, Callable[[Path, Path], Found]] = {
    "a data worker is killed": _worker_killed,
    f"a data worker does nothing for {_STOPPED:.0f} s": _worker_stopped,
    "SIGINT to a training and its data worker": _stopped_group,
    "a FIFO among the pictures": _fifo,
    "no space for a checkpoint": partial(_full_disk, name="teacher", size=_FULL),
    "no space for anything": partial(_full_disk, name="teacher", size=200),
    "no space for a pack": partial(_full_disk, name="pack", size=50_000),
    "no space for predictions": partial(_full_disk, name="predict", size=5_000),
    "values that are not finite in a training": _not_finite,
    "two trainings in one folder": _two_trainings,
    "two searches with one journal": _two_searches,
    "two students with one teacher's file": _two_students,
    "two predictions into one folder": _two_predictions,
}
