"""Moments at which a process is about to write: where it is killed."""

import os
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR


def _moments(folder: Path, act: Callable[[str], None]) -> None:
    """Call ``act`` whenever this process opens a file of a folder to write, or renames one."""
    inside = str(folder.absolute())

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and (args[2] or 0) & _WRITING:
            place, what = args[0], "open"
        elif event in ("os.rename", "os.link"):
            place, what = os.fspath(args[1]), event
        else:
            return
        if os.path.abspath(place).startswith(inside) and not place.endswith(".log"):
            act(f"{what} {Path(place).name}")

    sys.addaudithook(hook)


def noted(folder: Path, note: Path) -> Callable[[], None]:
    """A hook for a command: each moment becomes a line of a file outside the folder."""

    def install() -> None:
        number = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        _moments(folder, lambda what: _ignore(os.write(number, f"{what}\n".encode())))

    return install


def struck(folder: Path, at: int, number: int, delay: float) -> Callable[[], None]:
    """A hook for a command: at one of these moments it gets a signal.

    Args:
        folder: whose files count.
        at: which moment, from 0.
        number: of the signal.
        delay: seconds after the moment, within the write; 0: just before it.
    """

    def install() -> None:
        left = [at]

        def act(_: str) -> None:
            left[0] -= 1
            if left[0] != -1:
                return
            if delay:
                threading.Timer(delay, os.kill, (os.getpid(), number)).start()
            else:
                os.kill(os.getpid(), number)

        _moments(folder, act)

    return install


def choose(moments: list[str], rng: random.Random) -> int:
    """One of the moments, two times of three one of a checkpoint or of another result."""
    weighty = [n for n, what in enumerate(moments) if any(x in what for x in _RESULTS)]
    if weighty and rng.random() < 2 / 3:
        return rng.choice(weighty)
    return rng.randrange(len(moments))


_RESULTS = (".ckpt", "metrics.json", "predictions", "journal", "pixels", "index.npz", "pack.json")


def _ignore(_: object) -> None:
    """Takes what nobody needs."""
