"""Locks between processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which the system releases when the process ends.

    It also works between machines on file systems that share locks (NFS, Lustre, GPFS).

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is false.
    """
    import fcntl  # here, because Windows lacks it; single runs do not need it

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
