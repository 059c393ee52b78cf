"""The two linear layers by which SimCC's heads read maps along x and y."""

import torch
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """A linear layer whose matrix is the product of two thin ones.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
        rank: of the matrix.

    Raises:
        ValueError: the rank is not positive.
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"the head's rank must be at least 1, got {rank}")
        self.first = nn.Linear(inputs, rank, bias=False)
        self.last = nn.Linear(rank, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., inputs)`` to ``(..., outputs)``."""
        y: Tensor = self.last(self.first(x))
        return y


def axis_layer(cells: int, bins: int, rank: int | None = None) -> nn.Linear | LowRankLinear:
    """A layer from the cells of a map to the bins of an axis; ``rank`` None: a whole matrix."""
    return nn.Linear(cells, bins) if rank is None else LowRankLinear(cells, bins, rank)


def lines(width: int, height: int, axis: int) -> Tensor:
    """``(width, cells)`` for axis 0, ``(height, cells)`` for 1: which cells a column or row has."""
    if axis == 0:
        return torch.eye(width)[:, None, :].expand(-1, height, -1).flatten(1)
    return torch.eye(height)[:, :, None].expand(-1, -1, width).flatten(1)


def interpolation(bins: int, cells: int, center: float = 0.0) -> Tensor:
    """Weights ``(bins, cells)`` that read a row of cells at the bins' places.

    Bin b lies at cell b * cells / bins - center. Past the last cell its value is repeated.

    Args:
        bins: of the axis.
        cells: of the row.
        center: where cell 0 is centred, in cells from pixel 0.
    """
    place = (torch.arange(bins) * (cells / bins) - center).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)


@torch.no_grad()
def start_as_sums(layer: nn.Linear | LowRankLinear, table: Tensor, cells: Tensor) -> None:
    """Let a layer sum a map over its columns or rows and interpolate at the bins.

    Args:
        layer: of :func:`axis_layer`, in place.
        table: ``(bins, n)``, see :func:`interpolation`.
        cells: ``(n, cells)``, see :func:`lines`.

    Raises:
        ValueError: the layer's rank is lower than n.
    """
    if isinstance(layer, nn.Linear):
        layer.weight.copy_(table @ cells)
        layer.bias.zero_()
        return
    rank, count = layer.first.out_features, len(cells)
    if rank < count:
        raise ValueError(f"the head's rank must be at least the map's {count} lines, got {rank}")
    layer.first.weight[:count] = cells
    layer.last.weight.zero_()
    layer.last.weight[:, :count] = table
    layer.last.bias.zero_()
