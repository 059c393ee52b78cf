"""A teacher with a heatmap head in Eq. 2, 3 and 6: its decoded pose is what is compared."""

from functools import partial

import pytest
import torch

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.heads.heatmap import HeatmapHead
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module
from kdpose.types import PoseBatch

K, SIZE = len(CROWDPOSE), (48, 64)
OPTIMIZER = partial(torch.optim.Adam, lr=1e-3)


class Trainer:
    """The little that a training step asks of Lightning's."""

    max_epochs = 1
    log_every_n_steps = 1


def net(head, codec):
    torch.manual_seed(0)
    made = PoseNet(TimmPyramid("resnet10t", neck_channels=8), head, codec, CROWDPOSE)
    torch.nn.init.normal_(made.head.final_layer.weight, std=1)
    return made.eval()


def batch():
    torch.manual_seed(1)
    return PoseBatch(
        image=torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8),
        joints=torch.rand(2, K, 2) * 40,
        visible=torch.ones(2, K),
        center=torch.full((2, 2), 32.0),
        size=torch.tensor([[48.0, 64.0]] * 2),
        image_id=torch.arange(2),
        person=torch.arange(2),
        box_score=torch.ones(2),
    )


def loss_of(module, data, monkeypatch):
    monkeypatch.setattr(type(module), "trainer", Trainer())
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    return module.training_step(data, 0)


def test_stage1(monkeypatch):
    student, teacher = net(SimCCHead, SimCC(SIZE)), net(HeatmapHead, Heatmap(SIZE))
    data = batch()
    terms = {"pos": LossTerm(pose_l1)}
    module = DistillStage1Module(student, terms, OPTIMIZER, multi_step, teacher)
    with torch.no_grad():
        ours = student.codec.expectation(student(data.image).logits)
        wanted = (ours - teacher.pose(data.image).joints).abs().sum() / 2
    loss = loss_of(module, data, monkeypatch)
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-3)
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in student.parameters())


def test_stage2(monkeypatch):
    student, teacher = net(SimCCHead, SimCC(SIZE)), net(HeatmapHead, Heatmap(SIZE))
    data = batch()
    small = partial(IGPGCN, hidden=8, widths=(8, 8, 8))
    refined = RefinedPoseNet(student, small).eval()
    rename = {"target_pose": "teacher_pose"}
    terms = {"gcn_3": LossTerm(partial(refined_l1, block=2), rename=rename)}
    module = RefineStage2Module(refined, terms, OPTIMIZER, multi_step, teacher)
    taught = loss_of(module, data, monkeypatch)
    with torch.no_grad():
        target = teacher.pose(data.image).joints
        _, poses = refined(data.image)
    scale = 2 / torch.tensor([48.0, 64.0])  # Eq. 6 in [-1, 1]
    wanted = ((poses[2] - target) * scale).abs().mean()
    torch.testing.assert_close(taught, wanted, rtol=1e-4, atol=1e-5)


def test_a_heatmap_student_has_no_pose_to_learn_from(monkeypatch):
    student, teacher = net(HeatmapHead, Heatmap(SIZE)), net(HeatmapHead, Heatmap(SIZE))
    terms = {"pos": LossTerm(pose_l1)}
    module = DistillStage1Module(student, terms, OPTIMIZER, multi_step, teacher)
    with pytest.raises(ValueError, match="joints of heatmaps have no gradient"):
        loss_of(module, batch(), monkeypatch)
