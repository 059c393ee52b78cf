"""Searches as a user starts them, on a tiny synthetic data set."""

import csv
import os
import shlex
import signal
import subprocess
import sys
import time

import optuna
import pytest
from omegaconf import OmegaConf

import kdpose.train

TINY = (
    "+experiment=stage1",
    "+scale=synthetic",
    "hparams_search=distill",
    "backbone=mobilenetv4_tiny",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
    "module.flip_test=false",
    "teacher.check=false",
    "~callbacks.pictures",
)


@pytest.fixture
def search(crowd, tiny_checkpoints, tmp_path, monkeypatch, capsys):
    """Runs a search in this process; gives what it printed, and its folder."""
    given = (*TINY, f"teacher.ckpt={tiny_checkpoints['student']}", f"dataset.root={crowd}")

    def run(*overrides, fails=False):
        words = [*given, f"runs={tmp_path}", *overrides]
        monkeypatch.setattr(sys, "argv", ["kdpose.train", *words])
        if fails:
            with pytest.raises(SystemExit):
                kdpose.train.main()
        else:
            kdpose.train.main()
        return capsys.readouterr()

    run.folder = tmp_path / "synthetic_stage1_distill"
    run.words = [sys.executable, "-m", "kdpose.train", *given, f"runs={tmp_path}"]
    return run


def table(folder):
    return list(csv.DictReader((folder / "trials.csv").open()))


@pytest.mark.slow
def test_a_search_ends_with_table_figure_and_a_command_that_trains(search):
    said = search("hparams_search.trials=2", "loss.cst.weight=0.2")
    rows = table(search.folder)
    assert [row["state"] for row in rows] == ["complete", "complete"]
    assert float(rows[0]["loss.fea.weight"]) == 5e-5  # the experiment's own come first
    assert float(rows[0]["loss.pos.weight"]) == 0.1
    assert "loss.cst.weight" not in rows[0]  # given, so not searched
    for number, row in enumerate(rows):
        config = OmegaConf.load(search.folder / f"trial_{number:03d}" / "config.yaml")
        assert config.loss.fea.weight == float(row["loss.fea.weight"])
        assert config.loss.cst.weight == 0.2
        assert row["epochs"] == "2"
        left = {path.name for path in (search.folder / f"trial_{number:03d}").glob("*.ckpt")}
        assert left == {"best.ckpt"}
    assert (search.folder / "search.png").stat().st_size > 10000
    best = OmegaConf.load(search.folder / "best.yaml")
    assert float(best.AP) == max(float(row["AP"]) for row in rows)
    command = shlex.split(said.out.strip().splitlines()[-1])
    assert command[:2] == ["kdpose", "train"]
    assert command[2:] == list(best.overrides)
    assert not any(word.startswith("hparams_search") for word in command)


class OnlyTheFirst(optuna.pruners.BasePruner):
    """Prunes all trials but the first."""

    def prune(self, study, trial):
        return trial.number > 0


@pytest.mark.slow
def test_a_bad_trial_is_pruned(search):
    pruner = f"hparams_search.pruner._target_={__name__}.OnlyTheFirst"
    said = search("hparams_search.trials=2", "hparams_search/pruner=none", pruner)
    rows = table(search.folder)
    assert [row["state"] for row in rows] == ["complete", "pruned"]
    assert [row["epochs"] for row in rows] == ["2", "1"]
    assert said.out.count("pruned: AP") == 1
    assert not list(search.folder.glob("trial_001/*.ckpt"))


@pytest.mark.slow
def test_a_failed_trial_does_not_stop_the_others(search):
    space = "+hparams_search.space={optimizer.weight_decay:{choice:[-1.0,0.001]}}"
    said = search("hparams_search.trials=4", "trainer.max_epochs=1", space)
    rows = table(search.folder)
    failed = [row for row in rows if row["optimizer.weight_decay"] == "-1.0"]
    assert 0 < len(failed) < len(rows) == 4
    assert {row["state"] for row in failed} == {"fail"}
    assert said.err.count("error: trial") == len(failed)
    assert all("Invalid weight_decay" in row["error"] for row in failed)
    logs = [search.folder / f"trial_{row['trial']}" / "train.log" for row in failed]
    assert all("Invalid weight_decay" in log.read_text() for log in logs)


@pytest.mark.slow
def test_killed_and_started_again(search):
    """Killed in the second trial, whose first epoch is behind it: that is not trained again."""
    words = [*search.words, "hparams_search.trials=2", "trainer.max_epochs=3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    while not (search.folder / "trial_001" / "last.ckpt").is_file() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = (search.folder / "trial_000" / "best.ckpt").stat().st_mtime_ns
    said = search("hparams_search.trials=3", "trainer.max_epochs=3")
    rows = table(search.folder)
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert [row["tries"] for row in rows] == ["1", "2", "1"]
    assert (search.folder / "trial_000" / "best.ckpt").stat().st_mtime_ns == before
    logs = sorted((search.folder / "trial_001" / "csv").glob("*/metrics.csv"))
    epochs = {line["epoch"] for line in csv.DictReader(logs[-1].open())}
    assert "0" not in epochs
    assert "trial 000" not in said.out


@pytest.mark.slow
def test_what_cannot_work_is_said_once(search):
    said = search("trainer.max_epochs=1", "optimizer.weight_decay=-1", fails=True)
    assert said.err.count("error: trial 00") == 3
    assert "error: the first 3 trials failed, the last with: Invalid weight_decay" in said.err
    assert "train.log" in said.err


@pytest.mark.slow
def test_another_configuration_does_not_mix_in(search):
    search("hparams_search.trials=1", "trainer.max_epochs=1")
    said = search("hparams_search.trials=2", "trainer.max_epochs=2", fails=True)
    assert "trainer.max_epochs 1 -> 2" in said.err
    assert len(table(search.folder)) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["-m"], "remove -m or hparams_search"),
        (["trainer.devices=2"], "one device, got trainer.devices=2"),
        (["pipeline=two_stage"], "tunes one stage: use its experiment"),
    ],
)
def test_what_a_search_is_not(search, overrides, message):
    said = search(*overrides, fails=True)
    assert message in said.err
