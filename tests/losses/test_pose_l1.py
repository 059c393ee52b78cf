import pytest
import torch

from kdpose.losses.pose_l1 import pose_l1


def case(batch, joints, dtype=torch.float32):
    generator = torch.manual_seed(0)
    student = torch.rand(batch, joints, 2, generator=generator, dtype=dtype) * 200
    teacher = torch.rand(batch, joints, 2, generator=generator, dtype=dtype) * 200
    mask = (torch.rand(batch, joints, generator=generator) > 0.4).to(dtype)
    return student, teacher, mask


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_against_a_loop(batch, joints):
    student, teacher, mask = case(batch, joints)
    value, count = 0.0, 0
    for b in range(batch):
        for k in range(joints):
            if mask[b, k]:
                for a in range(2):
                    value += abs(student[b, k, a].item() - teacher[b, k, a].item())
                    count += 1
    assert pose_l1(student, teacher, mask).item() == pytest.approx(value / batch, rel=1e-5)
    assert pose_l1(student, teacher, mask, "mean").item() == pytest.approx(value / count, rel=1e-5)
    assert pose_l1(student, teacher, mask.bool()) == pose_l1(student, teacher, mask)


def test_by_hand():
    student = torch.tensor([[[1.0, 2.0], [9.0, 9.0]], [[0.0, 0.0], [5.0, 5.0]]])
    teacher = torch.tensor([[[3.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [5.0, 9.0]]])
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert pose_l1(student, teacher, mask).item() == (3 + 4) / 2
    assert pose_l1(student, teacher, mask, "mean").item() == pytest.approx(7 / 6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradcheck(reduction):
    student, teacher, mask = case(3, 14, torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: pose_l1(s, teacher, mask, reduction), (student,))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("counts", [0.0, 1.0])
def test_degenerate_cases_have_a_zero_gradient(reduction, counts):
    student = torch.full((1, 17, 2), 96.0, requires_grad=True)
    teacher = torch.full((1, 17, 2), 96.0 if counts else 0.0)  # equal, or nothing counts
    loss = pose_l1(student, teacher, torch.full((1, 17), counts), reduction)
    loss.backward()
    assert loss == 0
    assert (student.grad == 0).all()


def test_is_float32_for_bf16_poses():
    student, teacher, mask = (t.bfloat16() for t in case(3, 17))
    loss = pose_l1(student, teacher, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pose_l1(student.float(), teacher.float(), mask))


def test_errors():
    student, teacher, mask = case(1, 14)
    with pytest.raises(ValueError, match=r"\(1, 14, 2\), \(1, 13, 2\), \(1, 14\)"):
        pose_l1(student, teacher[:, :-1], mask)
    with pytest.raises(ValueError, match=r"joint_mask be \(B, K\), got .*\(1, 14, 1\)"):
        pose_l1(student, teacher, mask[..., None])
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        pose_l1(student, teacher, mask, "max")
