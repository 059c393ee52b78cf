import pytest
import torch
from torch import nn

from kdpose.heads.axes import LowRankLinear, axis_layer, interpolation, lines, start_as_sums
from kdpose.heads.simcc import SimCCHead
from kdpose.heads.simcc_maps import SimCCMapsHead


def test_lines_of_a_small_map():
    """Of a map of two rows and three columns, row by row."""
    assert lines(3, 2, 0).tolist() == [[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    assert lines(3, 2, 1).tolist() == [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]


def test_interpolation_by_hand():
    expected = [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]
    assert interpolation(4, 2).tolist() == expected
    assert interpolation(4, 2, center=0.5).tolist() == [[1, 0], [1, 0], [0.5, 0.5], [0, 1]]


def test_a_product_of_matrices():
    layer = LowRankLinear(12, 8, 3)
    x = torch.randn(2, 5, 12)
    expected = x @ (layer.last.weight @ layer.first.weight).T + layer.last.bias
    torch.testing.assert_close(layer(x), expected)
    assert torch.linalg.matrix_rank(layer.last.weight @ layer.first.weight) == 3
    assert torch.autograd.gradcheck(layer.double(), (x.double().requires_grad_(),))


@pytest.mark.parametrize("head", [SimCCHead, SimCCMapsHead])
def test_a_head_of_enough_rank_starts_as_one_without(head):
    options = {"init": "projection"} if head is SimCCHead else {}
    size = (8, 4, (6, 8), (24, 32))
    whole, thin = head(*size, **options), head(*size, rank=9, **options)
    for name, layer in whole.named_children():
        if not name.startswith("mlp"):
            getattr(thin, name).load_state_dict(layer.state_dict())
    feature = torch.randn(2, 8, 8, 6)
    for one, other in zip(whole(feature), thin(feature), strict=True):
        torch.testing.assert_close(one, other)


def test_too_low_a_rank_is_refused():
    with pytest.raises(ValueError, match="at least the map's 8 lines, got 7"):
        SimCCMapsHead(8, 4, (6, 8), (24, 32), rank=7)
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        axis_layer(4, 4, 0)


def test_what_starts_as_sums_can_be_trained():
    layer = LowRankLinear(48, 24, 9)
    start_as_sums(layer, interpolation(24, 6), lines(6, 8, 0))
    layer(torch.randn(4, 48)).square().sum().backward()
    assert isinstance(layer.last, nn.Linear)
    assert (layer.last.weight.grad != 0).all(0).any()
    assert layer.last.weight.grad[:, 6:].abs().sum() > 0  # lines that nothing uses yet
