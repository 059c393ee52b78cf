"""Runs that go on: from the checkpoint before where the last is damaged, or from a named one."""

import json

import pytest
import torch

from kdpose.runtime.locks import claimed
from kdpose.training import run_folder
from kdpose.training.checkpoint_files import WholeFiles, resumable
from kdpose.training.run_folder import open_run
from kdpose.training.stage import train


def _checkpoint(epoch):
    progress = {"epoch_progress": {"current": {"processed": epoch + 1}}}
    names = ("optimizer_states", "lr_schedulers")
    return {
        "state_dict": {"a": torch.ones(99)},
        "loops": {"fit_loop": progress},
        "epoch": epoch,
        "global_step": epoch,
        **{name: [] for name in names},
    }


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    files = WholeFiles()
    for epoch in (0, 1):
        files.save_checkpoint(_checkpoint(epoch), path / "last.ckpt")
    return path


@pytest.fixture(autouse=True)
def _no_log(monkeypatch):
    monkeypatch.setattr(run_folder, "_log_to", lambda path: None)


def _epoch(path):
    return torch.load(path, weights_only=True)["epoch"]


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(folder, caplog):
    last, before = folder / "last.ckpt", folder / "last.1.ckpt"
    assert (_epoch(last), _epoch(before)) == (1, 0)
    assert resumable(folder) == last
    last.write_bytes(last.read_bytes()[:-500])
    assert resumable(folder) == before
    assert f"{last} (from resume) is damaged" in caplog.text
    assert f"training goes on from {before}" in caplog.text
    WholeFiles().save_checkpoint(_checkpoint(1), last)  # a later process, which keeps the whole one
    assert (_epoch(last), _epoch(before)) == (1, 0)


def test_where_none_is_whole_the_newest_is_named(folder):
    for name in ("last.ckpt", "last.1.ckpt"):
        (folder / name).write_bytes(bytes(2000))
    with pytest.raises(ValueError, match=r"last\.ckpt .*begins with zeros.*resume=false") as caught:
        resumable(folder)
    assert "\n" not in str(caught.value)


def test_a_named_checkpoint_needs_epochs_to_go(folder, configured):
    path = folder / "last.ckpt"
    with pytest.raises(ValueError, match=r"has 2 epochs already: set trainer.max_epochs above 2"):
        open_run(configured("run", f"resume={path}", "trainer.max_epochs=2"))
    (folder / "metrics.json").write_text("{}")
    assert open_run(configured("run", f"resume={path}", "trainer.max_epochs=3"))[1] == str(path)
    assert not (folder / "metrics.json").exists()
    open_run(configured("run", f"resume={path}", "run_dir=${runs}/new"))  # elsewhere
    assert (_epoch(path), (folder.parent / "new").is_dir()) == (1, True)


def test_a_folder_in_use_is_refused_and_left_alone(folder, configured, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr("kdpose.runtime.locks.hold", lambda file: False)
    for resume in ("false", "auto", str(folder / "last.ckpt")):
        with pytest.raises(ValueError, match="is being trained by another process"):
            train(configured("run", f"resume={resume}"))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoint_before_to_the_same_result(configured, tmp_path):
    whole = train(configured("whole"))
    run = tmp_path / "run"
    train(configured("run"))
    (run / "metrics.json").unlink()
    (run / "last.ckpt").write_bytes((run / "last.ckpt").read_bytes()[:9000])
    assert train(configured("run", "resume=auto"))["AP"] == whole["AP"]
    longer = train(configured("run", f"resume={run}/last.ckpt", "trainer.max_epochs=4"))
    assert longer["training"]["epochs"] == 4
    assert json.loads((run / "metrics.json").read_text()) == longer
    with claimed(run):  # nobody holds it any more
        pass


def test_a_run_goes_on_from_another_working_folder(folder, configured, monkeypatch, tmp_path):
    """A path to the same place is no change of the settings, one to another place is."""
    home, other = tmp_path / "home", tmp_path / "other"
    for where in (home, other):
        where.mkdir()
    monkeypatch.chdir(home)
    images = "dataset.train.images="
    kept = folder.rename(tmp_path / "kept")
    open_run(configured("run", f"{images}data/images"))
    (kept / "last.ckpt").rename(folder / "last.ckpt")
    monkeypatch.chdir(other)
    for same in (f"{home}/data/images", "../home/data/images"):
        words = ("resume=auto", f"{images}{same}")
        assert open_run(configured("run", *words))[1] == str(folder / "last.ckpt")
    with pytest.raises(ValueError, match=r"data\.train\.images .*/home/data/images -> data2"):
        open_run(configured("run", "resume=auto", f"{images}data2"))
