"""Both stages under a teacher whose skeleton is another, or ordered otherwise."""

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
from kdpose.losses.terms import LossTerm, total
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton
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


def refined():
    graph = partial(IGPGCN, hidden=16, widths=(16, 16, 16))
    return RefinedPoseNet(net(16), graph)


def relabelled(teacher, order):
    """The same teacher, its joints listed in another order."""
    skeleton = teacher.skeleton
    place = {old: new for new, old in enumerate(order)}
    renamed = Skeleton(
        "reordered",
        tuple(skeleton.joints[k] for k in order),
        tuple((place[a], place[b]) for a, b in skeleton.limbs),
        tuple(skeleton.sigmas[k] for k in order),
    )
    other = net(24)
    other.load_state_dict(teacher.state_dict())
    other.skeleton = renamed
    with torch.no_grad():  # the projection's last convolution has one channel a joint
        for name in ("weight", "bias"):
            values = getattr(other.head.final_layer, name)
            values.copy_(values[list(order)].clone())
    return other


@pytest.mark.parametrize("joint_mask", ["all", "labelled"])
def test_equal_skeletons_are_bit_for_bit_as_without_a_bridge(joint_mask, monkeypatch):
    student, teacher, data = net(16), net(24), batch(3)
    module = DistillStage1Module(
        student, DISTILL, OPTIMIZER, multi_step, teacher, joint_mask=joint_mask
    )
    student.eval()
    loss, _ = step(module, data, monkeypatch, epoch=1)
    ours, theirs = student(data.image), teacher(data.image)
    target = student.codec.encode(data.joints, data.visible)
    context = {  # what the step offered before teachers could have skeletons of their own
        "logits": ours.logits,
        "target": target,
        "student_pose": student.codec.expectation(ours.logits),
        "teacher_pose": teacher.codec.expectation(theirs.logits) * 1.0,
        "joint_mask": torch.ones_like(target.weight) if joint_mask == "all" else target.weight,
        "limbs": torch.tensor(CROWDPOSE.limbs),
        "limb_weight": torch.ones(len(CROWDPOSE.limbs)),
        "student_feature": module.align(ours.features[0]),
        "teacher_feature": theirs.features[0],
    }
    assert torch.equal(loss, total(DISTILL, context, 0.75)[0])


def test_a_teacher_that_lists_its_joints_otherwise_teaches_the_same(monkeypatch):
    student, teacher, data = net(16), net(24), batch(2)
    student.eval()
    other = relabelled(teacher, [13, 3, 0, 12, 5, 1, 11, 2, 4, 10, 6, 9, 7, 8])
    losses = []
    for each in (teacher, other):
        torch.manual_seed(0)  # of the 1x1 convolution
        module = DistillStage1Module(student, DISTILL, OPTIMIZER, multi_step, each)
        losses.append(step(module, data, monkeypatch)[0])
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-5)
    graph = refined().eval()
    poses = [
        step(RefineStage2Module(graph, REFINE, OPTIMIZER, multi_step, each), data, monkeypatch)[0]
        for each in (teacher, other)
    ]
    assert torch.equal(*poses)


SHARED, THEIRS = list(range(12)), list(range(5, 17))  # CrowdPose's and COCO's twelve


def test_stage1_under_a_teacher_of_another_skeleton(monkeypatch):
    student, teacher, data = net(16), net(24, skeleton=COCO), batch(3)
    losses = {name: DISTILL[name] for name in ("pos", "cst")}
    module = DistillStage1Module(student, losses, OPTIMIZER, multi_step, teacher)
    student.eval()
    loss, logged = step(module, data, monkeypatch)
    with torch.no_grad():
        pose = student.codec.expectation(student(data.image).logits)[:, SHARED]
        wanted = teacher.codec.expectation(teacher(data.image).logits)[:, THEIRS]
    assert wanted.shape == (3, 12, 2)
    position = 0.1 * (pose - wanted).abs().sum() / 3
    torch.testing.assert_close(logged["train/loss_pos"], position)
    structure = 0.0
    for a, b in CROWDPOSE.limbs[:12]:  # the last three end in head or neck
        lengths = [(p[:, a] - p[:, b]).pow(2).sum(-1).sqrt() for p in (pose, wanted)]
        structure += 0.1 * (lengths[0] - lengths[1]).abs().sum() / 3
    torch.testing.assert_close(logged["train/loss_cst"], structure)
    loss.backward()
    pull = student.head.final_layer.bias.grad  # the channels of head and neck are not pulled
    assert torch.equal(pull[12:], torch.zeros(2))
    assert (pull[:12] != 0).all()


def test_stage2_takes_labels_where_the_teacher_knows_nothing(monkeypatch):
    model, teacher, data = refined(), net(24, skeleton=COCO), batch(3)
    module = RefineStage2Module(model, REFINE, OPTIMIZER, multi_step, teacher).eval()
    loss, _ = step(module, data, monkeypatch)
    with torch.no_grad():
        _, poses = model(data.image)
        wanted = data.joints.clone()
        wanted[:, SHARED] = teacher.pose(data.image).joints[:, THEIRS]
        mask = model.codec.encode(data.joints, data.visible).weight
        assert mask[:, 12:].sum() > 0  # some head or neck is labelled
        expected = 0.0
        for weight, pose in zip((0.3, 0.5, 1.0), poses, strict=True):
            error = (pose - wanted).abs() / torch.tensor([48, 64]) * 2
            expected += weight * error[mask > 0].mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("stage", [1, 2])
def test_training_under_another_skeleton_lowers_the_loss(stage, monkeypatch):
    teacher, data = net(24, skeleton=COCO), batch(4)
    data = data._replace(visible=torch.full((4, K), 2.0))
    module = (
        DistillStage1Module(net(16), DISTILL, OPTIMIZER, multi_step, teacher)
        if stage == 1
        else RefineStage2Module(refined(), REFINE, OPTIMIZER, multi_step, teacher)
    )
    optimizer = OPTIMIZER([p for p in module.parameters() if p.requires_grad])
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        loss, _ = step(module, data, monkeypatch)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_a_skeleton_without_a_shared_limb_has_no_equation_3():
    spokes = Skeleton(
        "spokes",
        ("left_hip", "right_hip", "nose", "hub"),
        ((0, 3), (1, 3), (2, 3)),
        (0.1,) * 4,
    )
    student, teacher = net(16, skeleton=spokes), net(24, skeleton=COCO)
    with pytest.raises(ValueError, match=r"no limb of skeleton 'spokes' .* teacher's 'coco'"):
        DistillStage1Module(student, DISTILL, OPTIMIZER, multi_step, teacher)
    without = {name: DISTILL[name] for name in ("kl", "fea", "pos")}
    DistillStage1Module(student, without, OPTIMIZER, multi_step, teacher)
