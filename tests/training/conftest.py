"""Small networks, a batch and a step of both stages, without data or Lightning's trainer."""

from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.cli import CONF
from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.feature_mse import feature_mse
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import PoseBatch


def _net(neck=16, size=(48, 64), skeleton=CROWDPOSE):
    torch.manual_seed(neck)
    backbone = TimmPyramid("mobilenetv4_conv_small_050", neck_channels=neck)
    head = partial(SimCCHead, init="projection")
    return PoseNet(backbone, head, SimCC(size, label="gaussian"), skeleton)


def _refined():
    return RefinedPoseNet(_net(16), partial(IGPGCN, hidden=16, widths=(16, 16, 16)))


def _batch(count, teacher_size=None):
    torch.manual_seed(count)
    joints = len(CROWDPOSE)
    image = torch.randint(0, 256, (count, 3, 64, 48), dtype=torch.uint8)
    second = None
    if teacher_size is not None:
        shape = (count, 3, teacher_size[1], teacher_size[0])
        second = torch.randint(0, 256, shape, dtype=torch.uint8)
    return PoseBatch(
        image=image,
        joints=torch.rand(count, joints, 2) * 40,
        visible=torch.randint(0, 3, (count, joints)).float(),
        center=torch.full((count, 2), 32.0),
        size=torch.tensor([[48.0, 64.0]]).repeat(count, 1),
        image_id=torch.arange(count),
        person=torch.arange(count),
        box_score=torch.ones(count),
        teacher_image=second,
    )


@pytest.fixture(scope="session")
def net():
    """Makes a network of random weights, seeded by the width of its neck."""
    return _net


@pytest.fixture(scope="session")
def refined():
    """Makes the same with a refiner."""
    return _refined


@pytest.fixture(scope="session")
def batch():
    """Makes random crops of CrowdPose's persons, at will with a second crop for the teacher."""
    return _batch


@pytest.fixture(scope="session")
def distill():
    """The losses of stage 1."""
    return {
        "kl": LossTerm(simcc_kl),
        "fea": LossTerm(feature_mse, 5e-5, decay=True),
        "pos": LossTerm(pose_l1, 0.1, decay=True),
        "cst": LossTerm(limb_length_l1, 0.1, decay=True),
    }


@pytest.fixture(scope="session")
def refine():
    """The losses of stage 2, one for each block of the refiner."""
    to_teacher = {"target_pose": "teacher_pose"}
    return {
        f"gcn_{block + 1}": LossTerm(partial(refined_l1, block=block), weight, rename=to_teacher)
        for block, weight in enumerate((0.3, 0.5, 1.0))
    }


class Trainer:
    """The little that a training step asks of Lightning's."""

    max_epochs = 4
    log_every_n_steps = 1


@pytest.fixture
def step(monkeypatch):
    """Takes a module's training step; gives the loss and what was logged."""

    def take(module, data, epoch=0):
        logged = {}
        monkeypatch.setattr(type(module), "trainer", Trainer())
        monkeypatch.setattr(type(module), "current_epoch", epoch)
        monkeypatch.setattr(type(module), "global_step", 0)
        monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
        monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
        return module.training_step(data, 0), logged

    return take


@pytest.fixture(scope="session")
def body():
    """CrowdPose's body under other names, in another order, without head and neck."""
    names = [name.split("_") for name in reversed(CROWDPOSE.joints[:12])]
    joints = tuple(f"{side[0]}-{joint.title()}" for side, joint in names)
    return Skeleton("body", joints, (), (0.08,) * 12)


def _recipe(skeleton):
    return {
        "_target_": "kdpose.pose_net.PoseNet",
        "backbone": {
            "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
            "name": "resnet10t",
            "neck_channels": 16,
            "model_args": {"channels": [16, 24, 32, 48], "stem_width": 8},
        },
        "head": {
            "_target_": "kdpose.heads.simcc.SimCCHead",
            "_partial_": True,
            "init": "projection",
        },
        "codec": {
            "_target_": "kdpose.codecs.simcc.SimCC",
            "input_size": [48, 64],
            "label": "gaussian",
        },
        "skeleton": {
            "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
            "values": skeleton.to_dict(),
        },
    }


@pytest.fixture(scope="session")
def recipe():
    """Gives what a checkpoint says of a small network with a skeleton."""
    return _recipe


@pytest.fixture(scope="session")
def build():
    """Makes that network, always the same."""

    def make(skeleton):
        torch.manual_seed(1)
        return instantiate(_recipe(skeleton), _convert_="all")

    return make


SMALL = (
    "+experiment=baseline",
    "dataset=synthetic",
    "dataset.prepare=null",
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "trainer.check_val_every_n_epoch=2",
    "~callbacks.pictures",
    "~callbacks.progress",
    "doctor=false",
)


@pytest.fixture
def configured(crowd, tmp_path):
    """Composes the configuration of a small run."""

    def make(name, *more):
        where = (f"dataset.root={crowd}", f"runs={tmp_path}", f"name={name}")
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", overrides=[*SMALL, *where, *more])

    return make
