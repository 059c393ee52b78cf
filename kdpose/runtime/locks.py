"""Locks between processes."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[TextIO]:
    """Hold a lock on a file, which the system releases when the process ends.

    It also works between machines on file systems that share locks (NFS, Lustre, GPFS).

    Yields:
        The open file.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
    """
    import fcntl  # here, because Windows lacks it; single runs use hold() alone

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


def hold(file: TextIO) -> bool:
    """Lock an open file until it is closed; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Reserve a run's folder for this process; the lock file next to it names process and host.

    A lock whose process is gone, however it ended, counts for nothing.

    Raises:
        ValueError: another process has it.
    """
    folder = folder.absolute()
    path = folder.with_name(f".{folder.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    while (mine := hold(file)) and not _is_at(file, path):  # its owner has just removed it
        file.close()
        file = path.open("a")
    with file:
        if not mine:
            raise ValueError(
                f"{folder} is being trained by {_owner(path)}: wait until it ends, stop it, or "
                "take another name=NAME"
            )
        file.truncate(0)  # by this file alone: closing another one of it gives up the lock
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    """Process and host that hold a lock, as far as they are written."""
    try:
        owner = json.loads(path.read_text())
        return f"process {owner['process']} on {owner['host']} (lock {path})"
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process (lock {path})"
