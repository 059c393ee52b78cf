import numpy as np
import pytest
import torch

from kdpose.losses.simulated_heatmap import (
    coordinate_smooth_l1,
    score_l1,
    simulated_heatmap_mse,
)
from kdpose.types import Coordinates, CoordinateTarget, HeatmapTarget


def example():
    torch.manual_seed(0)
    scores = Coordinates(
        torch.rand(2, 3, 2) * 1.2 - 0.1, torch.rand(2, 3, 2) * 0.2 + 0.05, torch.rand(2, 3)
    )
    weight = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    return scores, HeatmapTarget(torch.rand(2, 3, 8, 6), weight)


def test_smooth_l1_by_hand():
    scores = Coordinates(torch.tensor([[[0.5, 2.5], [9.0, 9.0]]]), torch.ones(1, 2, 2), None)
    target = CoordinateTarget(torch.zeros(1, 2, 2), torch.tensor([[1.0, 0.0]]))
    assert coordinate_smooth_l1(scores, target).item() == pytest.approx((0.125 + 2.0) / 4)


def test_gaussians_in_numpy():
    scores, taught = example()
    rows, columns = np.mgrid[:8, :6]
    total = 0.0
    for b in range(2):
        for k in range(3):
            (x, y), (dx, dy) = scores.joints[b, k].numpy(), scores.deviation[b, k].numpy()
            bump = np.exp(
                -((columns - x * 6) ** 2) / (2 * (dx * 6) ** 2)
                - (rows - y * 8) ** 2 / (2 * (dy * 8) ** 2)
            )
            error = (bump - taught.maps[b, k].numpy()) * taught.weight[b, k].item()
            total += 0.5 * (error**2).sum()
    wanted = total / (2 * 3 * 8 * 6)
    assert simulated_heatmap_mse(scores, taught).item() == pytest.approx(wanted, rel=1e-5)


def test_scores_in_numpy():
    scores, taught = example()
    total = 0.0
    for b in range(2):
        for k in range(3):
            x, y = np.round(scores.joints[b, k].numpy() * [6, 8]).astype(int)
            value = taught.maps[b, k, y, x].item() if 0 <= x < 6 and 0 <= y < 8 else 0
            total += abs(scores.score[b, k].item() - value) * taught.weight[b, k].item()
    assert score_l1(scores, taught).item() == pytest.approx(total / 6, rel=1e-5)


def test_gradients():
    scores, taught = example()
    joints, deviation, score = (part.double().requires_grad_() for part in scores)
    maps = HeatmapTarget(taught.maps.double(), taught.weight.double())

    def heatmap(joints, deviation):
        return simulated_heatmap_mse(Coordinates(joints, deviation, score), maps)

    def scored(score):
        return score_l1(Coordinates(joints, deviation, score), maps)

    assert torch.autograd.gradcheck(heatmap, (joints, deviation))
    assert torch.autograd.gradcheck(scored, (score,))


def test_other_shapes():
    scores, _ = example()
    target = CoordinateTarget(torch.zeros(2, 4, 2), torch.ones(2, 4))
    with pytest.raises(ValueError, match="coordinates and target must share a shape"):
        coordinate_smooth_l1(scores, target)
