import hashlib
import subprocess
from datetime import UTC, datetime, timedelta

import torch

import kdpose
from kdpose.runtime.provenance import code_version, git_state, sha256


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 10**6)
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_checkout_clean_and_changed(tmp_path):
    git(tmp_path, "init")
    package, other = tmp_path / "package", tmp_path / "venv"
    for folder in (package, other):
        folder.mkdir()
        (folder / "__init__.py").write_text("a = 1")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_state(package) == (commit, False)
    assert git_state(other) == (None, None)  # lies there and is not part of it
    (package / "__init__.py").write_text("a = 2")
    git_state.cache_clear()
    assert git_state(package) == (commit, True)


def test_no_checkout(tmp_path):
    assert git_state(tmp_path / "nowhere") == (None, None)


def test_version_of_this_code():
    stamp = code_version()
    assert stamp["version"] == kdpose.__version__
    assert stamp["torch"] == torch.__version__
    age = datetime.now(UTC) - datetime.fromisoformat(stamp["date"])
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert {"commit", "dirty"} <= stamp.keys()
