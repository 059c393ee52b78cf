"""Both stages under a teacher whose skeleton is another, or ordered otherwise."""

from functools import partial

import pytest
import torch

from kdpose.losses.terms import total
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module

K = len(CROWDPOSE)
OPTIMIZER = partial(torch.optim.Adam, lr=1e-3)


def relabelled(net, teacher, order):
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
def test_equal_skeletons_are_bit_for_bit_as_without_a_bridge(joint_mask, net, batch, step, distill):
    student, teacher, data = net(16), net(24), batch(3)
    module = DistillStage1Module(
        student, distill, OPTIMIZER, multi_step, teacher, joint_mask=joint_mask
    )
    student.eval()
    loss, _ = step(module, data, epoch=1)
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
    assert torch.equal(loss, total(distill, context, 0.75)[0])


def test_a_teacher_that_lists_its_joints_otherwise_teaches_the_same(
    net, batch, refined, step, distill, refine
):
    student, teacher, data = net(16), net(24), batch(2)
    student.eval()
    other = relabelled(net, teacher, [13, 3, 0, 12, 5, 1, 11, 2, 4, 10, 6, 9, 7, 8])
    losses = []
    for each in (teacher, other):
        torch.manual_seed(0)  # of the 1x1 convolution
        module = DistillStage1Module(student, distill, OPTIMIZER, multi_step, each)
        losses.append(step(module, data)[0])
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-5)
    graph = refined().eval()
    poses = [
        step(RefineStage2Module(graph, refine, OPTIMIZER, multi_step, each), data)[0]
        for each in (teacher, other)
    ]
    assert torch.equal(*poses)


SHARED, THEIRS = list(range(12)), list(range(5, 17))  # CrowdPose's and COCO's twelve


def test_stage1_under_a_teacher_of_another_skeleton(net, batch, step, distill):
    student, teacher, data = net(16), net(24, skeleton=COCO), batch(3)
    losses = {name: distill[name] for name in ("pos", "cst")}
    module = DistillStage1Module(student, losses, OPTIMIZER, multi_step, teacher)
    student.eval()
    loss, logged = step(module, data)
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


def test_stage2_takes_labels_where_the_teacher_knows_nothing(net, batch, refined, step, refine):
    model, teacher, data = refined(), net(24, skeleton=COCO), batch(3)
    module = RefineStage2Module(model, refine, OPTIMIZER, multi_step, teacher).eval()
    loss, _ = step(module, data)
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
def test_training_under_another_skeleton_lowers_the_loss(
    stage, net, batch, refined, step, distill, refine
):
    teacher, data = net(24, skeleton=COCO), batch(4)
    data = data._replace(visible=torch.full((4, K), 2.0))
    module = (
        DistillStage1Module(net(16), distill, OPTIMIZER, multi_step, teacher)
        if stage == 1
        else RefineStage2Module(refined(), refine, OPTIMIZER, multi_step, teacher)
    )
    optimizer = OPTIMIZER([p for p in module.parameters() if p.requires_grad])
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        loss, _ = step(module, data)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.8 * values[0]


def test_a_skeleton_without_a_shared_limb_has_no_equation_3(net, distill):
    spokes = Skeleton(
        "spokes",
        ("left_hip", "right_hip", "nose", "hub"),
        ((0, 3), (1, 3), (2, 3)),
        (0.1,) * 4,
    )
    student, teacher = net(16, skeleton=spokes), net(24, skeleton=COCO)
    with pytest.raises(ValueError, match=r"no limb of skeleton 'spokes' .* teacher's 'coco'"):
        DistillStage1Module(student, distill, OPTIMIZER, multi_step, teacher)
    without = {name: distill[name] for name in ("kl", "fea", "pos")}
    DistillStage1Module(student, without, OPTIMIZER, multi_step, teacher)
