"""Gaussians around places between cells, and the places that maps put their peaks at (DARK)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_FLOOR = 1e-10  # of a map, before its logarithm
_FARTHEST = 2.0  # cells: how far the expansion's own values reach


def gaussians(centres: Tensor, sigma: float, bins: Sequence[int]) -> Tensor:
    """Gaussians of peak 1 ``(B, K, h, w)`` around places ``(B, K, 2)``, whole, in cells."""
    x, y = (
        (-0.5 * ((_cells(centres, bins[axis]) - centres[..., axis, None]) / sigma).square()).exp()
        for axis in (0, 1)
    )
    return y[..., :, None] * x[..., None, :]


def box_inside(centres: Tensor, reach: float, bins: Sequence[int]) -> Tensor:
    """``(B, K)``: whether a box of ``reach`` cells around each place touches the map."""
    size = centres.new_tensor(list(bins))
    return ((centres - reach < size) & (centres + reach + 1 >= 0)).all(-1)


def boxes(centres: Tensor, reach: float, bins: Sequence[int]) -> Tensor:
    """Masks ``(B, K, h, w)`` of the cells up to ``reach`` from each place along both axes."""
    x, y = (
        (_cells(centres, bins[axis]) - centres[..., axis, None]).abs() <= reach for axis in (0, 1)
    )
    return y[..., :, None] & x[..., None, :]


def smoothed(maps: Tensor, kernel: int, edge: str = "constant") -> Tensor:
    """Maps ``(B, K, h, w)`` under a Gaussian of ``kernel`` cells.

    The Gaussian's standard deviation is 0.3 (kernel / 2 - 1.5) + 0.8 cells, as OpenCV takes it for
    9 cells and more: 2.0 for 11.

    Args:
        maps: of any kind.
        kernel: an odd number.
        edge: what lies outside a map: ``constant`` zeros, or its mirror image, ``reflect``.
    """
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    offset = torch.arange(kernel, device=maps.device, dtype=maps.dtype) - kernel // 2
    weight = (-0.5 * (offset / sigma).square()).exp()
    weight = weight / weight.sum()
    flat = F.pad(maps.flatten(0, 1)[:, None], [kernel // 2] * 4, mode=edge)
    flat = F.conv2d(flat, weight.view(1, 1, 1, -1))
    flat = F.conv2d(flat, weight.view(1, 1, -1, 1))
    return flat[:, 0].reshape(maps.shape)


def blurred(maps: Tensor, kernel: int) -> Tensor:
    """Maps ``(B, K, h, w)``, :func:`smoothed`; their maxima stay what they were."""
    smooth = smoothed(maps, kernel)
    top, smooth_top = (m.amax((-2, -1), keepdim=True) for m in (maps, smooth))
    return smooth * (top / smooth_top.clamp(min=_FLOOR))


def fitted_peaks(maps: Tensor, kernel: int, reach: int) -> tuple[Tensor, Tensor]:
    r"""Places ``(B, K, 2)`` of the peaks, in cells, and the values of the highest cells.

    The logarithm of a Gaussian is a paraboloid, so with the gradient D and the Hessian H of the
    blurred map's logarithm at the highest cell m, the peak is at (Zhang et al., CVPR 2020)

    .. math:: \mu = m - H^{-1} D.

    A maximum whose derivatives need cells outside the map stays in its cell, as does one without
    curvature; one that is not positive is at 0. The published code lets a nearly flat maximum move
    any distance; here it moves two cells along an axis at most.

    Args:
        maps: ``(B, K, h, w)``.
        kernel: cells of the blur.
        reach: step of the second derivatives along the axes, in cells.
    """
    height, width = maps.shape[-2:]
    score, index = maps.flatten(2).max(-1)
    column, row = index % width, index // width
    margin_x = (column >= reach) & (column < width - reach)
    inner = margin_x & (row >= reach) & (row < height - reach)
    logs = blurred(maps, kernel).clamp(min=_FLOOR).log()
    offset = _newton(logs, column, row, reach) * inner[..., None]
    cells = torch.stack([column, row], dim=-1).to(maps.dtype)
    return (cells + offset) * (score > 0)[..., None], score


def check_kernel(kernel: int) -> None:
    """Refuse a blur that has no middle cell.

    Raises:
        ValueError: it is even or too small.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise ValueError(f"kernel must be an odd number of cells from 3 on, got {kernel}")


def _newton(maps: Tensor, column: Tensor, row: Tensor, reach: int) -> Tensor:
    """The step ``(B, K, 2)`` from cells to where the second-order expansion has its extremum."""
    height, width = maps.shape[-2:]
    flat = maps.flatten(2)

    def at(dx: int, dy: int) -> Tensor:
        index = (row + dy).clamp(0, height - 1) * width + (column + dx).clamp(0, width - 1)
        return flat.gather(-1, index[..., None])[..., 0]

    middle, square = at(0, 0), float(reach * reach)
    slope_x, slope_y = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    bend_x = (at(reach, 0) - 2 * middle + at(-reach, 0)) / square
    bend_y = (at(0, reach) - 2 * middle + at(0, -reach)) / square
    twist = (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1)) / 4
    determinant = bend_x * bend_y - twist * twist
    curved = determinant != 0
    moved = torch.stack(
        [twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y], dim=-1
    )
    step = moved / torch.where(curved, determinant, 1.0)[..., None] * curved[..., None]
    return step.clamp(-_FARTHEST, _FARTHEST)


def _cells(like: Tensor, count: int) -> Tensor:
    return torch.arange(count, device=like.device, dtype=like.dtype)
