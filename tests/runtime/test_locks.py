"""One run, one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdpose.runtime.locks import claimed, hold
from kdpose.runtime.os_errors import explain

HOLD = """
import sys, time
from pathlib import Path
from kdpose.runtime.locks import claimed, hold
from kdpose.runtime.os_errors import explain
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_one_processs_until_it_is_gone(tmp_path):
    folder = tmp_path / "run"
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        said = rf"is being trained by process {other.pid} on \S+ .*name=NAME"
        with pytest.raises(ValueError, match=said), claimed(folder):
            pass
        assert not folder.exists()
        other.kill()
        other.wait()
    assert os.listdir(tmp_path) == [".run.lock"]
    with claimed(folder):  # what a killed process left counts for nothing
        pass
    assert os.listdir(tmp_path) == []


def test_a_folder_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), claimed(tmp_path / "run"):
        raise KeyError
    with claimed(tmp_path / "run"):
        assert list(Path(tmp_path).iterdir()) == [tmp_path / ".run.lock"]


def test_a_lock_that_its_owner_has_just_removed_is_not_taken(tmp_path, monkeypatch):
    path, first = tmp_path / ".run.lock", [True]

    def removed_in_between(file):
        if first.pop() if first else False:
            path.unlink()
        return hold(file)

    monkeypatch.setattr("kdpose.runtime.locks.hold", removed_in_between)
    with claimed(tmp_path / "run"):
        assert str(os.getpid()) in path.read_text()


def test_where_no_lock_can_be_made_one_line_says_so(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match="runs") as error, claimed(tmp_path / "runs" / "run"):
        pass
    assert "a file is where a folder is needed" in explain(error.value)
