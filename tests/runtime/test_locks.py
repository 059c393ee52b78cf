"""One run, one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdpose.runtime.locks import claimed

HOLD = """
import sys, time
from pathlib import Path
from kdpose.runtime.locks import claimed
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
