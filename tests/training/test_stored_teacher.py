"""What labels and stored answers teach together, and that stored answers teach what a net would."""

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
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.parameter_groups import parameter_groups
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module
from kdpose.training.stored_teacher import best_known, taught_spread, taught_weight
from kdpose.types import PoseBatch

K = len(CROWDPOSE)
OPTIMIZER = partial(torch.optim.Adam, lr=1e-3)
STORED = StoredTeacher("answers.json", CROWDPOSE)


def net(neck):
    torch.manual_seed(neck)
    backbone = TimmPyramid("mobilenetv4_conv_small_050", neck_channels=neck)
    codec = SimCC((48, 64), label="gaussian")
    return PoseNet(backbone, partial(SimCCHead, init="projection"), codec, CROWDPOSE)


def batch(count):
    torch.manual_seed(count)
    return PoseBatch(
        image=torch.randint(0, 256, (count, 3, 64, 48), dtype=torch.uint8),
        joints=torch.rand(count, K, 2) * 40,
        visible=torch.randint(0, 3, (count, K)).float(),
        center=torch.full((count, 2), 32.0),
        size=torch.tensor([[48.0, 64.0]]).repeat(count, 1),
        image_id=torch.arange(count),
        person=torch.arange(count),
        box_score=torch.ones(count),
    )


class Trainer:
    """The little that a training step asks of Lightning's."""

    max_epochs = 4


def step(module, data, monkeypatch):
    monkeypatch.setattr(type(module), "trainer", Trainer())
    monkeypatch.setattr(type(module), "current_epoch", 0)
    monkeypatch.setattr(type(module), "global_step", 0)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    return module.training_step(data, 0)


def taught_batch(count=3):
    data = batch(count)
    scores = torch.linspace(0, 1, count * K).reshape(count, K)
    return data._replace(taught=data.joints.flip(0) + 1, taught_score=scores)


def test_weak_answers_teach_nothing_and_others_by_their_score():
    data = taught_batch()
    assert data.taught_score is not None
    expected = [s if s >= 0.2 else 0.0 for s in data.taught_score.flatten().tolist()]
    assert taught_weight(data).flatten().tolist() == pytest.approx(expected)


def test_labels_come_first_and_answers_fill_in():
    data = taught_batch()
    joints, weight = best_known(data, None)
    assert data.taught is not None
    labelled = data.visible > 0
    assert torch.equal(joints[labelled], data.joints[labelled])
    assert torch.equal(joints[~labelled], data.taught[~labelled])
    assert torch.equal(weight[labelled], torch.ones(int(labelled.sum())))
    assert torch.equal(weight[~labelled], taught_weight(data)[~labelled])


@pytest.mark.parametrize(
    ("away", "score", "kept"), [(5, 0.9, True), (9, 0.9, False), (9, 0.3, True)]
)
def test_a_label_far_from_a_confident_answer_is_replaced(away, score, kept):
    data = batch(2)  # crops are 64 pixels high: an eighth are 8
    data = data._replace(
        visible=torch.full_like(data.visible, 2),
        taught=data.joints + torch.tensor([0.0, away]),
        taught_score=torch.full_like(data.visible, score),
    )
    joints, weight = best_known(data, 0.125)
    assert data.taught is not None
    assert torch.equal(joints, data.joints if kept else data.taught)
    assert torch.allclose(weight, torch.tensor(1.0 if kept else score))


def test_stage1_under_answers_against_equations(monkeypatch):
    losses = {
        "kl": LossTerm(simcc_kl),
        "logit": LossTerm(simcc_kl, 0.5, rename={"target": "teacher_target"}),
        "pos": LossTerm(pose_l1, 0.1),
        "cst": LossTerm(limb_length_l1, 0.1),
    }
    student, data = net(16).eval(), taught_batch()
    module = DistillStage1Module(student, losses, OPTIMIZER, multi_step, STORED)
    student.eval()
    assert data.taught is not None
    loss = step(module, data, monkeypatch)

    output, codec = student(data.image), student.codec
    joints, weight = best_known(data, None)
    everywhere = torch.full_like(data.visible, 2)
    hard, soft = codec.encode(joints, everywhere), codec.encode(data.taught, everywhere)
    known = (taught_weight(data) > 0).float() * soft.weight
    pose = codec.expectation(output.logits)
    expected = simcc_kl(output.logits, hard._replace(weight=hard.weight * weight))
    expected = expected + 0.5 * simcc_kl(
        output.logits, soft._replace(weight=soft.weight * taught_weight(data))
    )
    expected = expected + 0.1 * pose_l1(pose, data.taught, known)
    expected = expected + 0.1 * limb_length_l1(
        pose, data.taught, known, module.limbs, module.limb_weight
    )
    torch.testing.assert_close(loss, expected)


def test_persons_whom_nobody_knows_teach_nothing(monkeypatch):
    data = taught_batch()
    assert data.taught_score is not None
    nobody = data._replace(visible=data.visible * 0, taught_score=data.taught_score * 0)
    module = DistillStage1Module(net(16), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step, STORED)
    loss = step(module, nobody, monkeypatch)
    assert loss.item() == 0


def test_stage2_goes_to_the_answer_where_there_is_one(monkeypatch):
    term = LossTerm(partial(refined_l1, block=2), rename={"target_pose": "teacher_pose"})
    torch.manual_seed(0)
    student = RefinedPoseNet(net(16), partial(IGPGCN, hidden=16, widths=(16, 16, 16)))
    module = RefineStage2Module(student, {"gcn": term}, OPTIMIZER, multi_step, STORED)
    student.eval()
    data = taught_batch()
    assert data.taught is not None
    loss = step(module, data, monkeypatch)

    labels, weight = best_known(data, None)
    target = torch.where(taught_weight(data)[..., None] > 0, data.taught, labels)
    _, refined = student(data.image)
    mask = student.codec.encode(labels, weight).weight
    expected = refined_l1(refined, target, mask, (48, 64), 2, mask.sum())
    torch.testing.assert_close(loss, expected)


def test_a_loss_that_needs_a_feature_map_is_refused():
    with pytest.raises(ValueError, match="no feature map"):
        DistillStage1Module(net(16), {"fea": LossTerm(feature_mse)}, OPTIMIZER, multi_step, STORED)


def test_the_backbone_may_learn_at_a_share_of_the_rate():
    module = DistillStage1Module(
        net(16), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step, STORED, backbone_lr=0.25
    )
    rest, body = parameter_groups(module, OPTIMIZER, module.options.backbone_lr, None)
    assert (body["lr"], len(body["params"])) == (
        0.25e-3,
        len(list(module.net.backbone.parameters())),
    )
    assert len(rest["params"]) == len(list(module.net.head.parameters()))


def test_the_spread_of_answers_widens_their_targets_not_those_of_labels(monkeypatch):
    data = taught_batch()
    spread = torch.full_like(data.joints, 5.0)
    joints, _ = best_known(data, None)
    known = taught_spread(data._replace(taught_spread=spread), joints)
    assert known is not None
    assert (known[..., 0] == 5).tolist() == (data.visible == 0).tolist()
    assert taught_spread(data, joints) is None

    def loss(batch):
        module = DistillStage1Module(
            net(8), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step, STORED
        )
        return step(module, batch, monkeypatch)

    assert not torch.isclose(loss(data), loss(data._replace(taught_spread=spread)))
    exact = torch.full_like(spread, net(8).codec.sigma / net(8).codec.split_ratio)
    torch.testing.assert_close(loss(data), loss(data._replace(taught_spread=exact)))
