import subprocess
import sys

from kdpose.sweeps.locks import locked

PROBE = """
import sys
from pathlib import Path
from kdpose.sweeps.locks import locked
try:
    with locked(Path(sys.argv[1]), wait=False):
        print("free")
except BlockingIOError:
    print("held")
"""


def test_a_lock_keeps_others_out(tmp_path):
    """Asked by a process of its own: a fork of this one has the locks of its threads as well."""

    def ask():
        probe = [sys.executable, "-c", PROBE, tmp_path / "folder" / "lock"]
        return subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip()

    with locked(tmp_path / "folder" / "lock"):  # whose folder it makes
        assert ask() == "held"
    assert ask() == "free"
