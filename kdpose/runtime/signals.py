"""SIGTERM and SIGINT end a command with status 128 plus the signal's number."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)
_LAST_WORD = 5  # seconds that a data worker outlives a SIGTERM, so that its parent can end it


class Stopped(SystemExit):
    """A stop signal ends the command.

    Args:
        number: of the signal; the process ends with 128 and this.
        note: what was kept, for the line that says how to go on.
    """

    def __init__(self, number: int, note: str = "") -> None:
        super().__init__(128 + number)
        self.name, self.note = signal.Signals(number).name, note


class _Told:
    """The signal that arrived while signals were deferred."""

    owner = 0
    deferred = False
    number: int | None = None


def told() -> int | None:
    """The signal that arrived within :func:`deferred`, or None."""
    return _Told.number


def install(*more: signal.Signals) -> None:
    """Handle the signals, also where a library has put handlers of its own in the meantime."""
    if threading.current_thread() is threading.main_thread():
        _Told.owner = os.getpid()
        for number in (*STOPPING, *more):
            signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _Told.owner:  # a forked child: as it would be without us
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
    elif _Told.deferred and _Told.number is None:
        _Told.number = number
    else:
        raise Stopped(number)


@contextmanager
def handled() -> Iterator[None]:
    """Raise :class:`Stopped` in this block when a signal arrives."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    _Told.number, _Told.deferred = None, False
    install()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Only note the first signal in this block, see :func:`told`; a second one stops at once."""
    _Told.number, _Told.deferred = None, True
    try:
        yield
    finally:
        _Told.deferred = False


def keep_worker(_: Any = None) -> None:
    """Let a data worker be ended by its parent, not by a signal to the whole process group.

    The parent would report the worker as killed, by a traceback, while it writes its checkpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LAST_WORD) and None)
