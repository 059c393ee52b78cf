"""What the transformer heads share: positions of cells."""

import math

import torch
from torch import Tensor


def sine_positions(size: tuple[int, int], dim: int) -> Tensor:
    """Sines and cosines of the cells' rows and columns (Carion et al., ECCV 2020).

    Args:
        size: ``(w, h)`` of the map, cells.
        dim: values per cell, half of them for the row; a multiple of 4.

    Returns:
        ``(w * h, dim)``, row by row.

    Raises:
        ValueError: ``dim`` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4 for positions in the plane, got {dim}")
    half = dim // 2
    wave = 10000 ** (torch.arange(half // 2) * 2 / half)

    def axis(cells: int) -> Tensor:
        angle = (torch.arange(cells) + 1) / cells * 2 * math.pi
        turns = angle[:, None] / wave
        return torch.stack([turns.sin(), turns.cos()], dim=-1).flatten(1)

    width, height = size
    rows = axis(height)[:, None].expand(height, width, half)
    columns = axis(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
