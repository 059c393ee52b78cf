"""The paper's weights keep their share of L_KL at any label form, crop and map."""

import math
from functools import partial

import pytest
import torch

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.simcc import SimCC
from kdpose.data.taught import StoredTeacher
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.feature_mse import feature_mse
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.balance import PAPER, PAPER_MAP, feature_balance, pose_balance, pose_share
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module

CODECS = [
    SimCC((192, 256)),
    SimCC((72, 96)),
    SimCC((72, 96), label="gaussian", sigma=3.0),
    SimCC((192, 256), label="gaussian", sigma=6.0),
    SimCC((96, 128), split_ratio=3.0),
]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_the_share_is_the_closed_form(codec):
    """At uniform scores: |grad L1| of an axis is sqrt(W / 12 k), |grad KL| is |q - 1/n|."""
    size, bins = codec.input_size, codec.bins
    target = codec.encode(torch.tensor(size).view(1, 1, 2) / 2, torch.ones(1, 1))
    kl = [
        (q[0, 0] / q.sum() - 1 / n).square().sum().item() * q.sum().item() ** 2
        for q, n in zip((target.x, target.y), bins, strict=True)
    ]
    l1 = [side / (12 * codec.split_ratio) for side in size]
    assert pose_share(codec) == pytest.approx(math.sqrt(sum(l1) / sum(kl)), rel=1e-3)


def test_the_papers_numbers_are_the_papers_at_its_setting():
    assert pose_balance(PAPER) == pytest.approx(1, rel=1e-9)
    assert feature_balance(PAPER_MAP) == 1


def test_the_shares_of_the_table_in_the_docs():
    shares = [0.1 * pose_share(codec) for codec in CODECS[:4]]
    assert shares == pytest.approx([0.34, 0.21, 0.63, 1.44], abs=0.005)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_beta_weighs_alike_everywhere(codec):
    assert pose_balance(codec) * pose_share(codec) == pytest.approx(3.4, abs=0.005)
    assert pose_balance(codec, 2.0) == pytest.approx(pose_balance(codec) / 2)


def module(codec, balance):
    torch.manual_seed(0)
    backbone = TimmPyramid("mobilenetv4_conv_small_050", neck_channels=8)
    net = PoseNet(backbone, partial(SimCCHead, init="projection"), codec, CROWDPOSE)
    losses = {
        "kl": LossTerm(simcc_kl),
        "fea": LossTerm(feature_mse, 5e-5),
        "pos": LossTerm(pose_l1, 0.1),
        "cst": LossTerm(limb_length_l1, 0.1),
    }
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    return DistillStage1Module(net, losses, optimizer, multi_step, net, balance=balance)


def test_stage_1_multiplies_the_weights_where_wished():
    codec = SimCC((48, 64), label="gaussian")
    plain, balanced = (
        {name: term.weight for name, term in module(codec, balance).losses.items()}
        for balance in (False, True)
    )
    assert plain == {"kl": 1, "fea": 5e-5, "pos": 0.1, "cst": 0.1}
    factor = pose_balance(codec)
    assert balanced["kl"] == 1
    assert balanced["pos"] == balanced["cst"] == pytest.approx(0.1 * factor)
    assert balanced["fea"] == pytest.approx(5e-5 * 48 * 64 * 48 / (8 * 16 * 12))


def test_without_a_teacher_there_is_nothing_to_balance():
    stored = StoredTeacher("answers.json", CROWDPOSE)
    codec = SimCC((48, 64))
    net = module(codec, False).net
    losses = {"kl": LossTerm(simcc_kl)}
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    for teacher in (None, stored):
        made = DistillStage1Module(net, losses, optimizer, multi_step, teacher, balance=True)
        assert made.losses == losses
