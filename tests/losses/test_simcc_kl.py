import math

import pytest
import torch

from kdpose.codecs.simcc import SimCC
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.types import SimCCLogits, SimCCTarget


def case(batch, joints, label="smooth", dtype=torch.float32):
    generator = torch.manual_seed(0)
    codec = SimCC((6, 8), label=label, sigma=1.5)
    places = torch.rand(batch, joints, 2, generator=generator) * torch.tensor([5.0, 7.0])
    visible = torch.randint(0, 3, (batch, joints), generator=generator).float()
    target = SimCCTarget(*(t.to(dtype) for t in codec.encode(places, visible)))
    x = torch.randn(batch, joints, 12, generator=generator, dtype=dtype)
    y = torch.randn(batch, joints, 16, generator=generator, dtype=dtype)
    return SimCCLogits(x, y), target


def divergence(scores, target):
    """One joint, one axis: (sum over bins, number of bins)."""
    norm = math.log(sum(math.exp(z) for z in scores))
    return sum(q * (math.log(q) - (z - norm)) for z, q in zip(scores, target, strict=True) if q > 0)


def by_loop(logits, target, reduction):
    batch, joints = target.weight.shape
    nx, ny = (1, 1) if reduction == "nmt_sum" else (logits.x.shape[-1], logits.y.shape[-1])
    value = 0.0
    for b in range(batch):
        for k in range(joints):
            x = divergence(logits.x[b, k].tolist(), target.x[b, k].tolist()) / nx
            y = divergence(logits.y[b, k].tolist(), target.y[b, k].tolist()) / ny
            value += target.weight[b, k].item() * (x + y)
    return value / {"nmt_sum": batch, "mean": batch * joints, "mmpose": joints}[reduction]


@pytest.mark.parametrize("label", ["smooth", "gaussian"])
@pytest.mark.parametrize("reduction", ["nmt_sum", "mean", "mmpose"])
@pytest.mark.parametrize("joints", [14, 17])
@pytest.mark.parametrize("batch", [1, 3])
def test_against_a_loop(batch, joints, reduction, label):
    logits, target = case(batch, joints, label)
    want = by_loop(logits, target, reduction)
    got = simcc_kl(logits, target, reduction)
    assert got.shape == ()
    assert got.item() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(("bins", "nats"), [(384, 5.0308), (512, 5.2896)])
def test_uniform_student_of_smoothed_labels(bins, nats):
    codec = SimCC((bins // 2, bins // 2))
    target = codec.encode(torch.tensor([[[40.0, 70.0]]]), torch.ones(1, 1))
    logits = SimCCLogits(torch.zeros(1, 1, bins), torch.zeros(1, 1, bins))
    assert simcc_kl(logits, target).item() == pytest.approx(2 * nats, abs=2e-4)
    assert simcc_kl(logits, target, "mean").item() == pytest.approx(2 * nats / bins, abs=1e-5)


@pytest.mark.parametrize(("sigma", "nats"), [(6.0, 5.77), (4.0, 6.58)])
def test_uniform_student_of_gaussian_labels(sigma, nats):
    target = SimCC((192, 256), label="gaussian", sigma=sigma).encode(
        torch.tensor([[[96.0, 128.0]]]), torch.ones(1, 1)
    )
    logits = SimCCLogits(torch.zeros(1, 1, 384), torch.zeros(1, 1, 512))
    assert simcc_kl(logits, target).item() == pytest.approx(nats, abs=0.01)


def test_is_zero_with_zero_gradient_at_the_target():
    _, target = case(3, 17)
    x, y = target.x.log().requires_grad_(), target.y.log().requires_grad_()
    loss = simcc_kl(SimCCLogits(x, y), target)
    loss.backward()
    assert loss.abs() < 1e-4
    assert max(x.grad.abs().max(), y.grad.abs().max()) < 1e-6


def test_one_hot_target_is_cross_entropy():
    target = SimCC((6, 8), smoothing=0.0).encode(torch.tensor([[[2.0, 3.0]]]), torch.ones(1, 1))
    x = torch.randn(1, 1, 12, generator=torch.manual_seed(0), requires_grad=True)
    loss = simcc_kl(SimCCLogits(x, torch.zeros(1, 1, 16)), target)
    loss.backward()
    want = -x[0, 0].log_softmax(-1)[4] + math.log(16)
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    assert x.grad.isfinite().all()


def test_joints_without_weight_add_nothing():
    logits, target = case(3, 14)
    target = target._replace(weight=torch.zeros(3, 14))
    logits.x.requires_grad_()
    loss = simcc_kl(logits, target)
    loss.backward()
    assert loss == 0
    assert (logits.x.grad == 0).all()


@pytest.mark.parametrize("reduction", ["nmt_sum", "mean", "mmpose"])
@pytest.mark.parametrize("batch", [1, 3])
def test_gradcheck(batch, reduction):
    logits, target = case(batch, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, y: simcc_kl(SimCCLogits(x, y), target, reduction),
        (logits.x.requires_grad_(), logits.y.requires_grad_()),
    )


def test_is_float32_for_bf16_logits():
    logits, target = case(3, 17)
    half = SimCCLogits(logits.x.bfloat16(), logits.y.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        loss = simcc_kl(half, target)
    assert loss.dtype == torch.float32
    rounded = SimCCLogits(half.x.float(), half.y.float())
    torch.testing.assert_close(loss, simcc_kl(rounded, target))


def test_errors():
    logits, target = case(1, 14)
    with pytest.raises(ValueError, match=r"reduction must be one of .*'mmpose'.*, got 'sum'"):
        simcc_kl(logits, target, "sum")
    with pytest.raises(ValueError, match=r"got \(1, 14, 12\) and \(1, 14, 11\)"):
        simcc_kl(logits, target._replace(x=target.x[..., :-1]))
    with pytest.raises(ValueError, match=r"weight must be \(1, 14\), got \(1, 14, 1\)"):
        simcc_kl(logits, target._replace(weight=target.weight[..., None]))


def test_heatmaps_have_no_bins():
    maps = torch.zeros(1, 17, 16, 12)
    with pytest.raises(ValueError, match=r"other scores: take .*'loss=\[heatmap_mse\]'"):
        simcc_kl(maps, SimCCTarget(maps, maps, maps))
