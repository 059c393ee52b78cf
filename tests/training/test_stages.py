"""The two stages' own arithmetic: what is compared, at which scale, and what is trained."""

from functools import partial

import pytest
import torch

from kdpose.backbones.timm_pyramid import TimmPyramid
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
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module
from kdpose.types import PoseBatch

K = len(CROWDPOSE)
OPTIMIZER = partial(torch.optim.Adam, lr=1e-3)


def net(neck=16, size=(48, 64), skeleton=CROWDPOSE):
    torch.manual_seed(neck)
    backbone = TimmPyramid("mobilenetv4_conv_small_050", neck_channels=neck)
    head = partial(SimCCHead, init="projection")
    return PoseNet(backbone, head, SimCC(size, label="gaussian"), skeleton)


def batch(count, teacher_size=None):
    torch.manual_seed(count)
    image = torch.randint(0, 256, (count, 3, 64, 48), dtype=torch.uint8)
    second = None
    if teacher_size is not None:
        shape = (count, 3, teacher_size[1], teacher_size[0])
        second = torch.randint(0, 256, shape, dtype=torch.uint8)
    return PoseBatch(
        image=image,
        joints=torch.rand(count, K, 2) * 40,
        visible=torch.randint(0, 3, (count, K)).float(),
        center=torch.full((count, 2), 32.0),
        size=torch.tensor([[48.0, 64.0]]).repeat(count, 1),
        image_id=torch.arange(count),
        person=torch.arange(count),
        box_score=torch.ones(count),
        teacher_image=second,
    )


DISTILL = {
    "kl": LossTerm(simcc_kl),
    "fea": LossTerm(feature_mse, 5e-5, decay=True),
    "pos": LossTerm(pose_l1, 0.1, decay=True),
    "cst": LossTerm(limb_length_l1, 0.1, decay=True),
}
REFINE = {
    f"gcn_{block + 1}": LossTerm(
        partial(refined_l1, block=block), weight, rename={"target_pose": "teacher_pose"}
    )
    for block, weight in enumerate((0.3, 0.5, 1.0))
}


class Trainer:
    """The little that a training step asks of Lightning's."""

    max_epochs = 4
    log_every_n_steps = 1


def step(module, data, monkeypatch, epoch=0):
    logged = {}
    monkeypatch.setattr(type(module), "trainer", Trainer())
    monkeypatch.setattr(type(module), "current_epoch", epoch)
    monkeypatch.setattr(type(module), "global_step", 0)
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(module, "log_dict", lambda values, **_: logged.update(values))
    return module.training_step(data, 0), logged


@pytest.mark.parametrize("count", [2, 3])
def test_stage1_is_equation_5(count, monkeypatch):
    student, teacher = net(16), net(24)
    module = DistillStage1Module(student, DISTILL, OPTIMIZER, multi_step, teacher)
    student.eval()  # so that the reference below sees the same batch statistics
    data = batch(count)
    loss, logged = step(module, data, monkeypatch, epoch=1)
    gamma = 0.75  # the second of four epochs
    with torch.no_grad():
        ours, theirs = student(data.image), teacher(data.image)
        target = student.codec.encode(data.joints, data.visible)
        pose, wanted = (student.codec.expectation(o.logits) for o in (ours, theirs))
        aligned = module.align(ours.features[0])
        feature = 5e-5 * (aligned - theirs.features[0]).pow(2).sum() / count
        position = 0.1 * (pose - wanted).abs().sum() / count
        structure = 0.0
        for a, b in CROWDPOSE.limbs:
            lengths = [(p[:, a] - p[:, b]).pow(2).sum(-1).sqrt() for p in (pose, wanted)]
            structure += 0.1 * (lengths[0] - lengths[1]).abs().sum() / count
        expected = simcc_kl(ours.logits, target) + gamma * (feature + position + structure)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    assert logged["train/gamma"] == gamma
    torch.testing.assert_close(logged["train/loss_cst"], gamma * structure, rtol=1e-4, atol=1e-4)
    parts = [logged[f"train/loss_{name}"] for name in DISTILL]
    torch.testing.assert_close(sum(parts), loss.detach())


def test_teacher_learns_nothing_and_is_in_no_state(monkeypatch):
    student, teacher = net(16), net(24)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    module = DistillStage1Module(student, DISTILL, OPTIMIZER, multi_step, teacher)
    module.train()
    loss, _ = step(module, batch(3), monkeypatch)
    loss.backward()
    assert all(torch.equal(before[n], v) for n, v in teacher.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert {name.split(".")[0] for name in module.state_dict()} == {"net", "align"}
    assert all(p.grad is not None for p in module.parameters())


def test_teacher_may_have_another_input_size(monkeypatch):
    student, teacher = net(16), net(24, size=(96, 128))
    module = DistillStage1Module(student, DISTILL, OPTIMIZER, multi_step, teacher)
    assert module.teacher_scale() == 0.5
    loss, logged = step(module, batch(2, (96, 128)), monkeypatch)
    assert loss.isfinite()
    assert logged["train/loss_pos"] < 2 * K * 64 * 0.1  # in the student's pixels


LOGIT = LossTerm(simcc_kl, 0.5, decay=True, rename={"target": "teacher_target"})


def test_teachers_bins_as_targets(monkeypatch):
    student, teacher = net(16), net(24, skeleton=COCO)  # which has no head and no neck
    module = DistillStage1Module(student, {"logit": LOGIT}, OPTIMIZER, multi_step, teacher)
    student.eval()
    data = batch(2)
    loss, _ = step(module, data, monkeypatch, epoch=1)
    with torch.no_grad():
        ours, theirs = student(data.image).logits, teacher(data.image).logits
    expected = 0.0
    for k, name in enumerate(CROWDPOSE.joints):
        if name in COCO.joints:
            j = COCO.joints.index(name)
            for mine, its in zip(ours, theirs, strict=True):
                p = its[:, j].softmax(-1)
                expected += (p * (p.log() - mine[:, k].log_softmax(-1))).sum() / 2
    torch.testing.assert_close(loss, 0.75 * 0.5 * expected, rtol=1e-4, atol=1e-4)


def test_teachers_bins_must_be_the_students():
    teacher = net(24, size=(96, 128))
    with pytest.raises(ValueError, match=r"student has \(96, 128\), the teacher \(192, 256\)"):
        DistillStage1Module(net(16), {"logit": LOGIT}, OPTIMIZER, multi_step, teacher)


def test_a_lesson_without_a_teacher_is_refused():
    with pytest.raises(ValueError, match=r"need .*teacher_feature.*give a teacher"):
        DistillStage1Module(net(), DISTILL, OPTIMIZER, multi_step, teacher=None)


def test_without_lessons_the_same_module_trains_a_teacher(monkeypatch):
    module = DistillStage1Module(net(), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step)
    loss, logged = step(module, batch(2), monkeypatch)
    assert "train/gamma" not in logged
    assert {name.split(".")[0] for name in module.state_dict()} == {"net"}
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())


def refined():
    graph = partial(IGPGCN, hidden=16, widths=(16, 16, 16))
    return RefinedPoseNet(net(16), graph)


@pytest.mark.parametrize("count", [2, 3])
def test_stage2_is_equation_7(count, monkeypatch):
    model, teacher = refined(), net(24)
    module = RefineStage2Module(model, REFINE, OPTIMIZER, multi_step, teacher)
    module.eval()
    data = batch(count)
    loss, _ = step(module, data, monkeypatch)
    with torch.no_grad():
        _, poses = model(data.image)
        wanted = teacher.pose(data.image).joints
        mask = model.codec.encode(data.joints, data.visible).weight
        expected = 0.0
        for weight, pose in zip((0.3, 0.5, 1.0), poses, strict=True):
            error = (pose - wanted).abs() / torch.tensor([48, 64]) * 2
            expected += weight * error[mask > 0].mean()
    torch.testing.assert_close(loss, expected)


def test_stage2_trains_the_refiner_alone(monkeypatch):
    model = refined()
    labels = {
        name: LossTerm(term.fn, term.weight, rename={"target_pose": "label_pose"})
        for name, term in REFINE.items()
    }
    module = RefineStage2Module(model, labels, OPTIMIZER, multi_step)  # scheme 1: no teacher
    before = {name: value.clone() for name, value in model.student.state_dict().items()}
    module.train()
    loss, _ = step(module, batch(3), monkeypatch)
    loss.backward()
    assert all(torch.equal(before[n], v) for n, v in model.student.state_dict().items())
    trained = {name.split(".")[1] for name, p in module.named_parameters() if p.grad is not None}
    assert trained == {"refiner"}


def test_a_batch_without_any_label_has_finite_gradients(monkeypatch):
    data = batch(2)._replace(visible=torch.zeros(2, K))
    module = DistillStage1Module(
        net(), DISTILL, OPTIMIZER, multi_step, net(24), joint_mask="labelled"
    )
    loss, _ = step(module, data, monkeypatch)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    stage2 = RefineStage2Module(refined(), REFINE, OPTIMIZER, multi_step, net(24))
    loss, _ = step(stage2, data, monkeypatch)
    assert loss == 0
    loss.backward()
    assert all(p.grad.isfinite().all() for p in stage2.parameters() if p.grad is not None)


def test_a_loss_that_is_no_number_is_named(monkeypatch):
    module = DistillStage1Module(net(), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step)
    data = batch(2)._replace(joints=torch.full((2, K, 2), float("nan")), visible=torch.ones(2, K))
    with torch.no_grad():
        module.net.head.final_layer.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"\['kl'\] is not finite in epoch 0, step 0, images"):
        step(module, data, monkeypatch)
