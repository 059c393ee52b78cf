"""What the system refuses, in one line that names the file."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from kdpose.runtime.os_errors import explain, failed_file, of_worker
from kdpose.runtime.whole import write_whole

FULL = """
import resource, signal, sys
from kdpose.inference.results import ImageResults
from kdpose.runtime.os_errors import explain
from kdpose.runtime.whole import write_whole
from pathlib import Path
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
def plain():
    with (folder / "plain.txt").open("w") as file:
        file.write("x" * 500)
def results():
    ImageResults(folder, {}).add("a", [{"x": "y" * 500}])
for write in (plain, lambda: write_whole(folder / "whole.json", "x" * 500), results):
    try:
        write()
    except OSError as error:
        print(explain(error))
"""


def test_a_full_disk_names_the_file_that_was_being_written(tmp_path):
    words = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    names = ("plain.txt", "whole.json", "predictions.part.jsonl")
    remedy = "free space there or write elsewhere (out, runs), and repeat the command"
    assert done.stdout.splitlines() == [
        f"{tmp_path / name} cannot be written (File too large): {remedy}" for name in names
    ]
    assert not (tmp_path / "whole.json").exists()


def raised(act):
    with pytest.raises(OSError) as caught:  # noqa: PT011  the message is what is tested
        act()
    return explain(caught.value)


def test_files_in_place_of_folders_and_the_reverse(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "folder").mkdir()
    needed = "a file is where a folder is needed"
    assert raised((file / "a").mkdir) == f"{file}/a cannot be made (Not a directory): {needed}"
    assert raised(file.mkdir) == f"{file} cannot be made (File exists): {needed}"
    folder = tmp_path / "folder"
    assert raised(lambda: folder.write_text("")) == f"{folder}: Is a directory"
    assert raised(lambda: write_whole(tmp_path / "no/a.json", "")).endswith(
        "no/a.json: No such file or directory"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux alone")
def test_a_folder_that_nobody_may_write_to():
    line = raised(lambda: write_whole("/proc/self/a.json", "{}"))
    assert line.startswith("/proc/self/a.json")
    line = explain(PermissionError(13, "Permission denied", "/data/a.json"))
    assert line == (
        "/data/a.json cannot be used (Permission denied): change its permissions, or write "
        "elsewhere (out, runs)"
    )


def test_words_of_kdpose_stay_as_they_are():
    assert explain(FileNotFoundError("no file at /a (from b)")) == "no file at /a (from b)"
    assert explain(OSError(5, "Input/output error")) == "Input/output error"
    assert failed_file(OSError(28, "No space left on device")) is None


class Broken:
    def __len__(self):
        return 1

    def __getitem__(self, row):
        raise OSError("cannot read the image /a.png: it is cut short")


def test_a_data_workers_error_is_one_line():
    with pytest.raises(OSError, match="Original Traceback") as caught:
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert of_worker(explain(caught.value)) == "cannot read the image /a.png: it is cut short"
    assert of_worker("Caught a cold") == "Caught a cold"
