import pytest
import torch
from torch.nn.functional import mse_loss

from kdpose.losses.offset_mse import offset_mse
from kdpose.types import HeatmapTarget


def example(batch, joints):
    maps = torch.randn(batch, joints, 3, 4, 5)
    target = torch.randn(batch, joints, 3, 4, 5)
    target[:, :, 0] = (target[:, :, 0] > 0).float()
    target[:, :, 1:] *= target[:, :, :1]
    return maps, HeatmapTarget(target, torch.randint(0, 2, (batch, joints)).float())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_against_a_loop(batch, joints):
    """The published criterion: three halves of a mean per joint, averaged over joints."""
    maps, target = example(batch, joints)
    total = 0.0
    for k in range(joints):
        weight = target.weight[:, k, None, None]
        near, x, y = maps[:, k].unbind(1)
        hit, dx, dy = target.maps[:, k].unbind(1)
        total += 0.5 * mse_loss(near * weight, hit * weight)
        total += 0.5 * mse_loss(hit * x * weight, hit * dx * weight)
        total += 0.5 * mse_loss(hit * y * weight, hit * dy * weight)
    torch.testing.assert_close(offset_mse(maps, target), total / joints)


def test_by_hand():
    """Two cells: an offset counts where the joint is near, and nowhere else."""
    target = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]]).view(1, 1, 3, 1, 2)
    maps = torch.tensor([[1.0, 2.0], [1.5, 9.0], [2.0, 9.0]]).view(1, 1, 3, 1, 2)
    loss = offset_mse(maps, HeatmapTarget(target, torch.ones(1, 1)))
    assert loss.item() == pytest.approx(0.5 * (4 + 1 + 4) / 2)


def test_gradient():
    maps, target = example(2, 3)
    maps = maps.double().requires_grad_()
    exact = HeatmapTarget(target.maps.double(), target.weight.double())
    assert torch.autograd.gradcheck(lambda m: offset_mse(m, exact), maps)


def test_other_scores_are_refused():
    _, target = example(1, 14)
    with pytest.raises(ValueError, match="take codec=udp_offsets head=offset_maps"):
        offset_mse(torch.zeros(1, 14, 4, 5), target)
    with pytest.raises(ValueError, match="take codec=udp_offsets head=offset_maps"):
        offset_mse(torch.zeros(1, 14, 3, 4, 5), HeatmapTarget(target.maps[:, :, 0], target.weight))
    with pytest.raises(ValueError, match="must share a shape"):
        offset_mse(torch.zeros(1, 14, 3, 4, 4), target)
