"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a file's lock, which the system lets go when the process ends, however it ends.

    It holds between machines too, on file systems that share such locks (NFS, Lustre and GPFS do).

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
    """
    import fcntl  # here: Windows has none, and trains single runs without

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
