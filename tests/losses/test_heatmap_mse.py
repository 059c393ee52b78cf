import pytest
import torch

from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.types import HeatmapTarget, SimCCLogits


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_against_a_loop(batch, joints):
    """HRNet's criterion: per joint half the mean over batch and cells, averaged over joints."""
    maps, target = torch.randn(2, batch, joints, 4, 3)
    weight = torch.randint(0, 2, (batch, joints)).float()
    loss = 0.0
    for k in range(joints):
        mine, theirs = (m[:, k].flatten(1) * weight[:, k, None] for m in (maps, target))
        loss += 0.5 * torch.nn.functional.mse_loss(mine, theirs)
    wanted = loss / joints
    torch.testing.assert_close(heatmap_mse(maps, HeatmapTarget(target, weight)), wanted)


def test_by_hand():
    target = HeatmapTarget(torch.zeros(1, 2, 1, 2), torch.tensor([[1.0, 0.0]]))
    maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    assert heatmap_mse(maps, target).item() == pytest.approx(0.5 * (1 + 9) / 4)


def test_gradient():
    target = HeatmapTarget(torch.rand(2, 3, 4, 3), torch.tensor([[1.0, 0, 1], [0, 1, 1]]))
    maps = torch.randn(2, 3, 4, 3, requires_grad=True)
    heatmap_mse(maps, target).backward()
    wanted = (maps - target.maps) * target.weight[..., None, None] / maps.numel()
    torch.testing.assert_close(maps.grad, wanted.detach())


def test_shapes_must_agree():
    target = HeatmapTarget(torch.zeros(1, 17, 4, 3), torch.ones(1, 17))
    with pytest.raises(ValueError, match=r"got \(1, 14, 4, 3\) and \(1, 17, 4, 3\)"):
        heatmap_mse(torch.zeros(1, 14, 4, 3), target)


def test_bins_are_no_heatmaps():
    bins = SimCCLogits(torch.zeros(1, 17, 96), torch.zeros(1, 17, 128))
    with pytest.raises(ValueError, match=r"other scores: take .*'loss=\[simcc_kl\]'"):
        heatmap_mse(bins, None)
    with pytest.raises(ValueError, match="other scores"):  # three maps per joint
        heatmap_mse(torch.zeros(1, 17, 3, 4, 3), None)
