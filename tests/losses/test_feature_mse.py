import pytest
import torch

from kdpose.losses.feature_mse import feature_mse


def features(batch, dtype=torch.float32):
    generator = torch.manual_seed(0)
    shape = (batch, 3, 4, 2)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize("batch", [1, 3])
def test_against_a_loop(batch):
    student, teacher = features(batch)
    value = 0.0
    for b in range(batch):
        for c in range(3):
            for h in range(4):
                for w in range(2):
                    value += (student[b, c, h, w] - teacher[b, c, h, w]).item() ** 2
    assert feature_mse(student, teacher).item() == pytest.approx(value / batch, rel=1e-5)
    mean = feature_mse(student, teacher, "mean").item()
    assert mean == pytest.approx(value / batch / 24, rel=1e-5)


def test_by_hand():
    student = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]])
    teacher = torch.tensor([[[[0.0, 4.0]]], [[[3.0, 0.0]]]])
    assert feature_mse(student, teacher).item() == (1 + 4 + 9) / 2
    assert feature_mse(student, teacher, "mean").item() == (1 + 4 + 9) / 4


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradcheck(reduction):
    student, teacher = features(3, torch.float64)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: feature_mse(s, teacher, reduction), (student,))


def test_is_float32_for_bf16_maps():
    # in bf16 the sum would stop growing at 256
    student = torch.ones(1, 48, 16, 12).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = feature_mse(student, torch.zeros_like(student))
    assert loss.dtype == torch.float32
    assert loss.item() == 48 * 16 * 12


def test_errors():
    with pytest.raises(ValueError, match=r"got \(1, 32, 4, 3\) and \(1, 48, 4, 3\)"):
        feature_mse(torch.zeros(1, 32, 4, 3), torch.zeros(1, 48, 4, 3))
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'none'"):
        feature_mse(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), "none")
