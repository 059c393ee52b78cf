import math

import numpy as np
import pytest
import torch

from kdpose.losses.pixel_kl import pixel_kl
from kdpose.types import HeatmapTarget


def example():
    torch.manual_seed(0)
    branches = [torch.randn(2, 3, 4, 5, requires_grad=True) for _ in range(3)]
    ensemble = torch.randn(2, 3, 4, 5, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    return branches, ensemble, HeatmapTarget(torch.zeros(2, 3, 4, 5), weight)


def test_in_numpy():
    branches, ensemble, target = example()

    def shares(maps):
        raised = np.exp(maps.detach().numpy().reshape(2, 3, 20) * target.weight.numpy()[..., None])
        return raised / raised.sum(-1, keepdims=True)

    p = shares(ensemble)
    wanted = sum((p * np.log(p / shares(b))).sum() for b in branches) / (2 * 20)
    assert pixel_kl(branches, ensemble, target, 60).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("epoch", "share"), [(0, math.exp(-5)), (30, math.exp(-1.25)), (90, 1)])
def test_the_ramp(epoch, share):
    branches, ensemble, target = example()
    whole = pixel_kl(branches, ensemble, target, epoch, ramp_epochs=0).item()
    assert pixel_kl(branches, ensemble, target, epoch).item() == pytest.approx(share * whole)


def test_only_branches_learn():
    branches, ensemble, target = example()
    pixel_kl(branches, ensemble, target, 0).backward()
    assert all(b.grad.any() for b in branches)
    assert not branches[0].grad[0, 1].any()  # of weight 0
    assert ensemble.grad is None
