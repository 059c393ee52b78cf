import numpy as np
import pytest
import torch

from kdpose.losses.rle import RealNVP, ResidualLogLikelihood
from kdpose.losses.terms import LossTerm
from kdpose.types import Coordinates, CoordinateTarget


def example(batch=2, joints=3):
    torch.manual_seed(0)
    scores = Coordinates(
        torch.rand(batch, joints, 2, dtype=torch.float64),
        torch.rand(batch, joints, 2, dtype=torch.float64) + 0.1,
        torch.rand(batch, joints, dtype=torch.float64),
    )
    weight = torch.ones(batch, joints, dtype=torch.float64)
    weight[0, 0] = 0
    target = CoordinateTarget(torch.rand(batch, joints, 2, dtype=torch.float64), weight)
    return scores, target


def test_the_density_integrates_to_one():
    torch.manual_seed(0)
    flow = RealNVP().double()
    axis = torch.linspace(-9, 9, 400, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    step = (axis[1] - axis[0]).item()
    assert flow.log_prob(grid).exp().sum().item() * step**2 == pytest.approx(1, abs=1e-3)


def test_the_density_by_change_of_variables():
    torch.manual_seed(1)
    flow = RealNVP(couplings=4, hidden=8).double()
    errors = torch.randn(5, 2, dtype=torch.float64)

    def to_normal(error):
        z = error.clone()
        for i in reversed(range(4)):
            fixed, free = (1, 0) if i % 2 == 0 else (0, 1)
            kept = torch.zeros(2, dtype=torch.float64)
            kept[fixed] = z[fixed]
            scale, shift = flow.scale[i](kept), flow.shift[i](kept)
            moved = (z[free] - shift[free]) * torch.exp(-scale[free])
            z = torch.stack([z[0], moved] if free == 1 else [moved, z[1]])
        return z

    for error in errors:
        jacobian = torch.autograd.functional.jacobian(to_normal, error)
        z = to_normal(error)
        normal = -0.5 * (z @ z) - np.log(2 * np.pi)
        wanted = normal + torch.linalg.det(jacobian).abs().log()
        torch.testing.assert_close(flow.log_prob(error), wanted)


def test_the_loss_in_numpy():
    scores, target = example()
    loss = ResidualLogLikelihood().double()
    error = (target.joints - scores.joints) / scores.deviation
    learned = loss.flow.log_prob(error).detach().numpy()
    deviation, error = scores.deviation.numpy(), error.numpy()
    each = np.log(deviation) - learned[..., None]
    each = each + np.log(2 * deviation) + np.abs(error) / np.sqrt(2)
    wanted = (each * target.weight.numpy()[..., None]).sum() / 2
    assert loss(scores, target).item() == pytest.approx(wanted)


def test_gradients():
    scores, target = example(1, 2)
    loss = ResidualLogLikelihood(couplings=2, hidden=4).double()

    def of(joints, deviation):
        return loss(Coordinates(joints, deviation, scores.score), target)

    inputs = (scores.joints.requires_grad_(), scores.deviation.requires_grad_())
    assert torch.autograd.gradcheck(of, inputs)


def test_the_flow_is_trained_along():
    term = LossTerm(ResidualLogLikelihood())
    assert term.needs == {"logits", "target"}
    assert term.name == "ResidualLogLikelihood"
    scores, target = example()
    term.fn.double()
    term({"logits": scores, "target": target, "other": 1}).backward()
    assert all(p.grad is not None for p in term.fn.parameters())


def test_other_shapes():
    scores, target = example()
    other = target._replace(joints=target.joints[:, :2])
    with pytest.raises(ValueError, match="coordinates and target must share a shape"):
        ResidualLogLikelihood().double()(scores, other)


def test_maps_are_no_coordinates():
    _, target = example()
    with pytest.raises(ValueError, match=r"other scores: take .* codec=regression head=regression"):
        ResidualLogLikelihood()(torch.zeros(2, 3, 8, 6), target)
