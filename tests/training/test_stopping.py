"""A training that is told to stop, and goes on where it was."""

import multiprocessing
import os
import signal

import lightning as L
import pytest
import torch

from kdpose.runtime import signals
from kdpose.training import stopping
from kdpose.training.stage import train


class Tell(L.Callback):
    """Sends this process a signal at one batch."""

    def __init__(self, number, epoch, batch, validation=False):
        self.number, self.at, self.validation = number, (epoch, batch), validation

    def on_train_batch_start(self, trainer, module, batch, index):
        if not self.validation and (trainer.current_epoch, index) == self.at:
            os.kill(os.getpid(), self.number)

    def on_validation_batch_start(self, trainer, module, batch, index, loader=0):
        if self.validation and (trainer.current_epoch, index) == self.at:
            os.kill(os.getpid(), self.number)


def _state(folder):
    content = torch.load(folder / "last.ckpt", weights_only=True)
    return content["state_dict"], content["epoch"], content["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code", "workers"), [("TERM", 143, 2), ("INT", 130, 0)])
def test_a_stopped_training_goes_on_at_the_next_batch(configured, tmp_path, number, code, workers):
    workers = f"data.num_workers={workers}"
    whole = train(configured("whole", workers))
    told = Tell(signal.Signals[f"SIG{number}"], 1, 1)
    with signals.handled(), pytest.raises(signals.Stopped) as stopped:
        train(configured("told", workers), callbacks=[told])
    assert stopped.value.code == code
    assert str(tmp_path / "told" / "last.ckpt") in stopped.value.note
    expected, _, steps = _state(tmp_path / "whole")
    assert _state(tmp_path / "told")[1:] == (1, steps // 3 + 2)
    assert train(configured("told", workers, "resume=auto"))["AP"] == whole["AP"]
    weights = _state(tmp_path / "told")[0]
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_in_validation_the_last_whole_epoch_stands(configured, tmp_path):
    told = Tell(signal.SIGTERM, 1, 0, validation=True)
    with signals.handled(), pytest.raises(signals.Stopped):
        train(configured("told", "data.batch_size=4", "data.num_workers=1"), callbacks=[told])
    assert _state(tmp_path / "told")[1] == 0
    assert not multiprocessing.active_children()  # its data workers, nor those of validation


def test_slurm_queues_a_warned_job_again(tmp_path, monkeypatch):
    script = tmp_path / "scontrol"
    script.write_text(f"#!/bin/sh\necho $* > {tmp_path}/asked\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    stopping.requeue()
    assert (tmp_path / "asked").read_text() == "requeue 7_3\n"
