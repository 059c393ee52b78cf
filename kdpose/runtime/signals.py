"""SIGTERM and SIGINT end a command with status 128 plus the signal's number."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)
_LAST_WORD = 5  # seconds that a data worker outlives a SIGTERM, so that its parent can end it
_AGAIN = 0.05  # seconds until a signal that came within an import is looked at again
_ECHO = 0.5  # seconds within which a signal to the process and to its group is one signal


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
    """The signal that arrived while signals were deferred, and what the process makes of any."""

    owner = 0
    deferred = False
    number: int | None = None
    last: int | None = None
    at = 0.0
    follower = False
    pass_on: Callable[[int], object] | None = None


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
    elif _importing(frame):  # an exception in the middle of a C++ library's start aborts it
        signal.signal(signal.SIGALRM, lambda _, later: _handle(number, later))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
    elif _Told.follower and number == _Told.last and time.monotonic() < _Told.at + _ECHO:
        return  # to the group, and passed on
    else:
        _Told.last, _Told.at = number, time.monotonic()
        if _Told.pass_on is not None:
            act, _Told.pass_on = _Told.pass_on, None
            act(number)
        if not _Told.deferred or _Told.number is not None:
            raise Stopped(number)
        _Told.number = number


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def handled() -> Iterator[None]:
    """Raise :class:`Stopped` in this block when a signal arrives."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    _Told.number, _Told.deferred, _Told.last, _Told.pass_on = None, False, None, None
    install()
    try:
        yield
    finally:
        _Told.pass_on = None
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


def pass_on(act: Callable[[int], object]) -> None:
    """Do something with each signal first, until the end of :func:`handled`."""
    _Told.pass_on = act


def follow() -> None:
    """Begin a job in a process that a launcher has started.

    Raises:
        Stopped: a signal has ended an earlier job of the process.
    """
    if _Told.last is not None:
        raise Stopped(_Told.last)
    _Told.follower = True
    install()


def keep_worker(_: Any = None) -> None:
    """Let a data worker be ended by its parent, not by a signal to the whole process group.

    The parent would report the worker as killed, by a traceback, while it writes its checkpoint.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_LAST_WORD) and None)
