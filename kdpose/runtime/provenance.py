"""Where a figure comes from: hashes of files, versions of code."""

import functools
import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kdpose


def sha256(path: str | Path) -> str:
    """Hash of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code_version() -> dict[str, Any]:
    """The code that computed a figure, and when.

    Returns:
        ``version``, ``commit`` (None if the package is not in a git checkout), ``dirty`` (whether
        tracked files differed from that commit), ``torch``, ``date`` (UTC).
    """
    import torch  # takes seconds, and hashes need none

    commit, dirty = git_state(Path(kdpose.__file__).parent)
    return {
        "version": kdpose.__version__,
        "commit": commit,
        "dirty": dirty,
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@functools.cache  # once per process: later edits are not part of what is running
def git_state(package: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that holds a package, and whether its tracked files were changed.

    A package that is inside a checkout but not tracked, as in ``.venv``, has neither.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None if it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
