"""The two stages' own arithmetic: what is compared, at which scale, and what is trained."""

from functools import partial

import pytest
import torch

from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.training.parameter_groups import parameter_groups
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module

K = len(CROWDPOSE)
OPTIMIZER = partial(torch.optim.Adam, lr=1e-3)


@pytest.mark.parametrize("count", [2, 3])
def test_stage1_is_equation_5(count, net, batch, step, distill):
    student, teacher = net(16), net(24)
    module = DistillStage1Module(student, distill, OPTIMIZER, multi_step, teacher)
    student.eval()  # so that the reference below sees the same batch statistics
    data = batch(count)
    loss, logged = step(module, data, epoch=1)
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
    parts = [logged[f"train/loss_{name}"] for name in distill]
    torch.testing.assert_close(sum(parts), loss.detach())


def test_teacher_learns_nothing_and_is_in_no_state(net, batch, step, distill):
    student, teacher = net(16), net(24)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    module = DistillStage1Module(student, distill, OPTIMIZER, multi_step, teacher)
    module.train()
    loss, _ = step(module, batch(3))
    loss.backward()
    assert all(torch.equal(before[n], v) for n, v in teacher.state_dict().items())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert {name.split(".")[0] for name in module.state_dict()} == {"net", "align"}
    assert all(p.grad is not None for p in module.parameters())


def test_teacher_may_have_another_input_size(net, batch, step, distill):
    student, teacher = net(16), net(24, size=(96, 128))
    module = DistillStage1Module(student, distill, OPTIMIZER, multi_step, teacher)
    assert module.teacher_scale() == 0.5
    loss, logged = step(module, batch(2, (96, 128)))
    assert loss.isfinite()
    assert logged["train/loss_pos"] < 2 * K * 64 * 0.1  # in the student's pixels


LOGIT = LossTerm(simcc_kl, 0.5, decay=True, rename={"target": "teacher_target"})


def test_teachers_bins_as_targets(net, batch, step):
    student, teacher = net(16), net(24, skeleton=COCO)  # which has no head and no neck
    module = DistillStage1Module(student, {"logit": LOGIT}, OPTIMIZER, multi_step, teacher)
    student.eval()
    data = batch(2)
    loss, _ = step(module, data, epoch=1)
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


def test_teachers_bins_must_be_the_students(net):
    teacher = net(24, size=(96, 128))
    with pytest.raises(ValueError, match=r"student has \(96, 128\), the teacher \(192, 256\)"):
        DistillStage1Module(net(16), {"logit": LOGIT}, OPTIMIZER, multi_step, teacher)


def test_a_lesson_without_a_teacher_is_refused(net, distill):
    with pytest.raises(ValueError, match=r"need .*teacher_feature.*give a teacher"):
        DistillStage1Module(net(), distill, OPTIMIZER, multi_step, teacher=None)


def test_without_lessons_the_same_module_trains_a_teacher(net, batch, step):
    module = DistillStage1Module(net(), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step)
    loss, logged = step(module, batch(2))
    assert "train/gamma" not in logged
    assert {name.split(".")[0] for name in module.state_dict()} == {"net"}
    loss.backward()
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("count", [2, 3])
def test_stage2_is_equation_7(count, net, batch, refined, step, refine):
    model, teacher = refined(), net(24)
    module = RefineStage2Module(model, refine, OPTIMIZER, multi_step, teacher)
    module.eval()
    data = batch(count)
    loss, _ = step(module, data)
    with torch.no_grad():
        _, poses = model(data.image)
        wanted = teacher.pose(data.image).joints
        mask = model.codec.encode(data.joints, data.visible).weight
        expected = 0.0
        for weight, pose in zip((0.3, 0.5, 1.0), poses, strict=True):
            error = (pose - wanted).abs() / torch.tensor([48, 64]) * 2
            expected += weight * error[mask > 0].mean()
    torch.testing.assert_close(loss, expected)


def test_stage2_trains_the_refiner_alone(batch, refined, step, refine):
    model = refined()
    labels = {
        name: LossTerm(term.fn, term.weight, rename={"target_pose": "label_pose"})
        for name, term in refine.items()
    }
    module = RefineStage2Module(model, labels, OPTIMIZER, multi_step)  # scheme 1: no teacher
    before = {name: value.clone() for name, value in model.student.state_dict().items()}
    module.train()
    loss, _ = step(module, batch(3))
    loss.backward()
    assert all(torch.equal(before[n], v) for n, v in model.student.state_dict().items())
    trained = {name.split(".")[1] for name, p in module.named_parameters() if p.grad is not None}
    assert trained == {"refiner"}


def test_a_batch_without_any_label_has_finite_gradients(net, batch, refined, step, distill, refine):
    data = batch(2)._replace(visible=torch.zeros(2, K))
    module = DistillStage1Module(
        net(), distill, OPTIMIZER, multi_step, net(24), joint_mask="labelled"
    )
    loss, _ = step(module, data)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    stage2 = RefineStage2Module(refined(), refine, OPTIMIZER, multi_step, net(24))
    loss, _ = step(stage2, data)
    assert loss == 0
    loss.backward()
    assert all(p.grad.isfinite().all() for p in stage2.parameters() if p.grad is not None)


def test_a_loss_that_is_no_number_is_named(net, batch, step):
    module = DistillStage1Module(net(), {"kl": LossTerm(simcc_kl)}, OPTIMIZER, multi_step)
    data = batch(2)._replace(joints=torch.full((2, K, 2), float("nan")), visible=torch.ones(2, K))
    with torch.no_grad():
        module.net.head.final_layer.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"\['kl'\] is not finite in epoch 0, step 0, images"):
        step(module, data)


def test_a_backbone_without_a_learning_rate_is_frozen(net, batch, step):
    student, teacher = net(16), net(24)
    student.requires_grad_(True)
    module = DistillStage1Module(
        student, {"logit": LOGIT}, OPTIMIZER, multi_step, teacher, backbone_lr=0.0
    )
    before = {n: v.clone() for n, v in student.backbone.state_dict().items()}
    module.train()
    loss, _ = step(module, batch(3))
    loss.backward()
    optimizer = OPTIMIZER(parameter_groups(module, OPTIMIZER, 0.0, None))
    optimizer.step()
    assert all(torch.equal(before[n], v) for n, v in student.backbone.state_dict().items())
    assert all(p.grad is not None for p in student.head.parameters())
