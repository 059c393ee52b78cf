import math

import pytest
import torch

from kdpose.losses.limb_length import limb_length_l1
from kdpose.skeletons.known import COCO, CROWDPOSE


def case(batch, skeleton, dtype=torch.float32):
    generator = torch.manual_seed(0)
    shape = (batch, len(skeleton), 2)
    student = torch.rand(shape, generator=generator, dtype=dtype) * 200
    teacher = torch.rand(shape, generator=generator, dtype=dtype) * 200
    mask = (torch.rand(shape[:2], generator=generator) > 0.3).to(dtype)
    weight = torch.tensor(skeleton.limb_weights("oks"), dtype=dtype)
    return student, teacher, mask, torch.tensor(skeleton.limbs), weight


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
def test_against_a_loop(batch, skeleton):
    student, teacher, mask, limbs, weight = case(batch, skeleton)
    value = 0.0
    for b in range(batch):
        for e, (i, j) in enumerate(skeleton.limbs):
            if mask[b, i] and mask[b, j]:
                lengths = [
                    math.dist(pose[b, i].tolist(), pose[b, j].tolist())
                    for pose in (student, teacher)
                ]
                value += weight[e].item() * abs(lengths[0] - lengths[1])
    got = limb_length_l1(student, teacher, mask, limbs, weight)
    assert got.shape == ()
    assert got.item() == pytest.approx(value / batch, rel=1e-5)
    assert limb_length_l1(student, teacher, mask.bool(), limbs, weight) == got


def test_by_hand():
    student = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]])
    teacher = torch.tensor([[[0.0, 0.0], [6.0, 8.0], [6.0, 8.0]]])
    limbs, weight = torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 0.5])
    everything = torch.ones(1, 3)
    assert limb_length_l1(student, teacher, everything, limbs, weight).item() == 2 * 5 + 0.5 * 1
    only_one_end = torch.tensor([[0.0, 1.0, 1.0]])
    assert limb_length_l1(student, teacher, only_one_end, limbs, weight).item() == 0.5


def test_ignores_where_the_pose_is_and_how_it_is_turned():
    student, _, mask, limbs, weight = case(3, COCO)
    turned = student.flip(-1) * torch.tensor([-1.0, 1.0]) + 30
    assert limb_length_l1(student, turned, mask, limbs, weight) < 1e-3


def test_gradcheck():
    student, *others = case(3, CROWDPOSE, torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: limb_length_l1(s, *others), (student,))


@pytest.mark.parametrize("counts", [0.0, 1.0])
def test_gradient_is_finite_at_length_zero(counts):
    _, teacher, mask, limbs, weight = case(1, COCO)
    student = torch.full((1, 17, 2), 96.0, requires_grad=True)
    loss = limb_length_l1(student, teacher, torch.full_like(mask, counts), limbs, weight)
    loss.backward()
    assert (loss > 0).item() == (counts > 0)
    assert student.grad.isfinite().all()


def test_a_skeleton_without_limbs_adds_nothing():
    student, teacher, mask, _, _ = case(3, COCO)
    student.requires_grad_()
    none = torch.zeros(0, 2, dtype=torch.long)
    loss = limb_length_l1(student, teacher, mask, none, torch.zeros(0))
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


def test_is_float32_for_bf16_poses():
    student, teacher, mask, limbs, weight = case(3, COCO)
    half = student.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = limb_length_l1(half, teacher, mask, limbs, weight)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, limb_length_l1(half.float(), teacher, mask, limbs, weight))


def test_errors():
    student, teacher, mask, limbs, weight = case(1, COCO)
    with pytest.raises(ValueError, match=r"\(1, 17, 2\), \(1, 16, 2\), \(1, 17\)"):
        limb_length_l1(student, teacher[:, 1:], mask, limbs, weight)
    with pytest.raises(ValueError, match=r"limbs must be \(E, 2\).*got \(19, 2\) and \(18,\)"):
        limb_length_l1(student, teacher, mask, limbs, weight[1:])
