"""Two processes that share a batch against one that has it all: losses, weights, poses and AP."""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.simcc import SimCC
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.evaluation.validation import score_validation
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.feature_mse import feature_mse
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.metrics.pose_results import PoseResults
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.runtime.ranks import mean_over_ranks, met, rank, speaks
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module

WORLD = 2
DISTILL = {
    "kl": LossTerm(simcc_kl),
    "fea": LossTerm(feature_mse, 5e-5, decay=True),
    "pos": LossTerm(pose_l1, 0.1, decay=True),
    "cst": LossTerm(limb_length_l1, 0.1, decay=True),
}
REFINE = {
    "gcn": LossTerm(partial(refined_l1, block=2), rename={"target_pose": "teacher_pose"}),
    "label": LossTerm(partial(refined_l1, block=0), rename={"target_pose": "label_pose"}),
    "middle": LossTerm(partial(refined_l1, block=1), rename={"target_pose": "label_pose"}),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pose_net(neck):
    torch.manual_seed(neck)
    backbone = TimmPyramid("mobilenetv4_conv_small_050", neck_channels=neck)
    return PoseNet(backbone, partial(SimCCHead, init="projection"), SimCC((48, 64)), CROWDPOSE)


def build(stage):
    student, teacher = pose_net(16), pose_net(24)
    optimizer = partial(torch.optim.SGD, lr=1e-3)
    if stage == 1:
        return DistillStage1Module(student, DISTILL, optimizer, multi_step, teacher)
    refiner = partial(IGPGCN, hidden=16, widths=(16, 16, 16))
    return RefineStage2Module(
        RefinedPoseNet(student, refiner), REFINE, optimizer, multi_step, teacher
    )


class Probe(L.Callback):
    """Freezes batch norms, whose statistics a CPU's processes do not share; keeps what is made."""

    def __init__(self):
        self.losses, self.ap, self.poses = [], [], None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.eval()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())

    def on_validation_epoch_start(self, trainer, module):
        self.wrong = PoseResults(module.net.codec.input_size)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        """Poses that are wrong by as much as the person's row tells, for an AP in the middle."""
        off = torch.stack([torch.full((14, 2), (row % 5) * 0.7) for row in batch.person.tolist()])
        shown = batch.visible.clamp(0.1, 1)
        self.wrong.update(
            batch.image_id, batch.person, batch.joints + off, shown,
            batch.box_score, batch.center, batch.size,
        )  # fmt: skip
        self.shown = self.__dict__.get("shown", 0) + len(batch.person)

    def on_validation_epoch_end(self, trainer, module):
        self.ap.append(score_validation(trainer.datamodule, self.wrong.compute()))
        self.poses = module.results.compute()


def odd_split(root, path):
    """The validation file without its last person, where their number is even."""
    truth = json.loads((root / "annotations" / "crowdpose_test.json").read_text())
    truth["annotations"] = truth["annotations"][: (len(truth["annotations"]) - 1) // 2 * 2 + 1]
    path.write_text(json.dumps(truth))


def fit(world, stage, root, val):
    files = {"train": root / "annotations" / "crowdpose_trainval.json", "val": val}
    where = {
        split: {"annotations": str(file), "images": str(root / "images")}
        for split, file in files.items()
    }
    data = CocoKeypointDataModule(
        **where, skeleton=CROWDPOSE, protocol="crowdpose", input_size=(48, 64), batch_size=8,
        num_workers=0,
    )  # fmt: skip
    module, probe = build(stage), Probe()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto",
        callbacks=[probe], logger=False, enable_progress_bar=False, enable_model_summary=False,
        precision="64-true", enable_checkpointing=False, use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    weights = {name: value.numpy() for name, value in module.net.state_dict().items()}
    return {
        "losses": probe.losses,
        "ap": probe.ap,
        "logged": {k: v.item() for k, v in trainer.callback_metrics.items() if "val/" in k},
        "persons": probe.poses.person,
        "keypoints": probe.poses.keypoints,
        "shown": probe.shown,
        "split": len(data.datasets["val"]),
        "weights": weights,
        "mean": mean_over_ranks(torch.tensor(float(trainer.global_rank))).item(),
        "met": met(),
    }


def worker(number, port, root, folder):
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(number), "LOCAL_RANK": str(number), "GROUP_RANK": "0",
        "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD),
    }  # fmt: skip
    val = folder / "val.json"
    torch.save({stage: fit(WORLD, stage, root, val) for stage in (1, 2)}, folder / f"{number}.pt")


@pytest.fixture(scope="module")
def runs(crowd, tmp_path_factory):
    """What one process and each of two saw, by stage."""
    folder = tmp_path_factory.mktemp("ranks")
    odd_split(crowd, folder / "val.json")
    words = [sys.executable, __file__, str(free_port()), str(crowd), str(folder)]
    ranks = [subprocess.Popen([*words, str(number)]) for number in range(WORLD)]
    assert [process.wait() for process in ranks] == [0] * WORLD
    shared = [torch.load(folder / f"{n}.pt", weights_only=False) for n in range(WORLD)]
    alone = {stage: fit(1, stage, crowd, folder / "val.json") for stage in (1, 2)}
    return {stage: (alone[stage], [part[stage] for part in shared]) for stage in (1, 2)}


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_losses_and_weights_are_those_of_one_process(runs, stage):
    alone, shared = runs[stage]
    assert len(alone["losses"]) > 4
    assert shared[0]["losses"] != shared[1]["losses"]  # each had persons of its own
    together = np.mean([part["losses"] for part in shared], axis=0)
    np.testing.assert_allclose(together, alone["losses"], rtol=1e-9)
    assert max(alone["losses"]) > 1.001 * min(alone["losses"])
    for name, value in alone["weights"].items():
        np.testing.assert_array_equal(shared[0]["weights"][name], shared[1]["weights"][name])
        np.testing.assert_allclose(shared[0]["weights"][name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_an_uneven_split_is_scored_as_by_one_process(runs, stage):
    alone, shared = runs[stage]
    assert alone["split"] % WORLD == 1  # so that one person pads
    assert sum(part["shown"] for part in shared) == 2 * (alone["split"] + 1)
    for part in shared:
        assert part["persons"].tolist() == list(range(alone["split"]))
        np.testing.assert_allclose(part["keypoints"], alone["keypoints"], atol=1e-4)
        assert part["ap"] == alone["ap"]  # to the last digit
        assert part["logged"] == shared[0]["logged"]
    assert 0.2 < alone["ap"][0]["AP"] < 0.9


@pytest.mark.slow
def test_means_over_ranks(runs):
    alone, shared = runs[1]
    assert (alone["met"], alone["mean"]) == (False, 0.0)
    assert [(part["met"], part["mean"]) for part in shared] == [(True, 0.5)] * WORLD
    value = torch.tensor(3.0, requires_grad=True)
    assert mean_over_ranks(value).requires_grad is False


@pytest.mark.parametrize(
    ("environment", "number", "says"),
    [
        ({}, 0, True),
        ({"RANK": "5", "LOCAL_RANK": "1"}, 5, False),
        ({"RANK": "4", "LOCAL_RANK": "0"}, 4, True),  # the first of its node
        ({"LOCAL_RANK": "2"}, 2, False),
        ({"SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, 3, False),
        ({"SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, 2, True),
    ],
)
def test_rank_is_what_the_launcher_says(monkeypatch, environment, number, says):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (rank(), speaks()) == (number, says)


if __name__ == "__main__":  # one of the processes
    port, root, folder, number = sys.argv[1:]
    worker(int(number), int(port), Path(root), Path(folder))
