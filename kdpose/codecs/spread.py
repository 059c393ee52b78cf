"""How widely a network's answer spreads: standard deviations of bins and of heatmaps.

A network gives some probability to every place, and together they would outweigh the peak. Values
below a tenth of the maximum therefore do not count. This also cuts off a Gaussian's tails, which
the results make up for: a Gaussian's result is its sigma.
"""

import math

import torch
from torch import Tensor

_TAIL = 0.1  # of the maximum
_REACH = math.sqrt(-2 * math.log(_TAIL))  # standard deviations at which a Gaussian is that low
# the variance that a Gaussian has left, along a line and in a disc
_LEFT_1D = 1 - 2 * _REACH * _TAIL / math.sqrt(2 * math.pi) / math.erf(_REACH / math.sqrt(2))
_LEFT_2D = 1 - _REACH**2 / 2 * _TAIL / (1 - _TAIL)


def bin_spread(density: Tensor) -> Tensor:
    """Standard deviations ``(...)`` of densities ``(..., n)`` around their maxima, in bins.

    Args:
        density: not negative; it need not sum to 1.
    """
    density = density.float()
    kept = torch.where(density < _TAIL * density.amax(-1, keepdim=True), 0.0, density)
    index = torch.arange(density.shape[-1], device=density.device)
    squared = (index - density.argmax(-1, keepdim=True)).square()
    total = kept.sum(-1).clamp(min=1e-12)
    return ((kept * squared).sum(-1) / total / _LEFT_1D).sqrt()


def map_spread(maps: Tensor) -> Tensor:
    """Standard deviations ``(B, K, 2)`` along x and y of heatmaps ``(B, K, h, w)``, in cells."""
    maps = maps.float()
    peak, place = maps.flatten(2).max(-1)
    kept = torch.where(maps < _TAIL * peak[..., None, None], 0.0, maps).clamp(min=0)
    total, width = kept.sum((-2, -1)).clamp(min=1e-12), maps.shape[-1]
    variances = []
    for axis, middle in ((-2, place % width), (-1, place // width)):  # x is what y is summed over
        marginal = kept.sum(axis)
        index = torch.arange(marginal.shape[-1], device=maps.device)
        squared = (index - middle[..., None]).square()
        variances.append((marginal * squared).sum(-1) / total)
    return (torch.stack(variances, -1) / _LEFT_2D).sqrt()
