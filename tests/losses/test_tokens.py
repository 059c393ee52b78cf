import pytest
import torch

from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.losses.tokens import pass_mse, pass_token_mse, token_mse
from kdpose.types import HeatmapTarget


def test_by_hand():
    ours, theirs = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert token_mse(ours, theirs).item() == 30 / 4
    assert pass_token_mse([ours, theirs, ours]).item() == 2 * 30 / 4


def test_only_the_earlier_pass_learns():
    first, last = (torch.randn(2, 3, 4, requires_grad=True) for _ in range(2))
    pass_token_mse((first, last)).backward()
    assert first.grad is not None
    assert last.grad is None


def test_every_pass_has_the_labels():
    torch.manual_seed(0)
    maps = [torch.rand(2, 3, 4, 5) for _ in range(3)]
    target = HeatmapTarget(torch.rand(2, 3, 4, 5), torch.ones(2, 3))
    wanted = sum(heatmap_mse(m, target) for m in maps)
    torch.testing.assert_close(pass_mse(maps, target), wanted)


def test_errors():
    with pytest.raises(ValueError, match="tokens of student and teacher must share a shape"):
        token_mse(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match=r"set head.cycles to 2 or more"):
        pass_token_mse([torch.zeros(1, 2, 3)])
