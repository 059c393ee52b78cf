"""SimCC on top of a heatmap network's own maps, so that such a network can be the start."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdpose.types import SimCCLogits

_LIFT = 2.0  # added to heatmap logits: what lies below is background


class SimCCMapsHead(nn.Module):
    """A small heatmap head, whose maps two linear layers read off along the axes.

    MoveNet's heatmap head (depthwise 3x3, pointwise, ReLU, 1x1 to K maps) comes first.  Its logits
    are mostly background, far below 0; ``leaky_relu(logit + 2)`` keeps the peaks, and the linear
    layers start as sums over rows and columns, interpolated at the bins.  From MoveNet's weights
    the network so reads poses before any training.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(nx, ny)`` SimCC bins.
        hidden: channels between the two parts of the heatmap head.
        cell_center: crop pixel that cell 0 stands for, in cells of 4 pixels: MoveNet's joints lie
            at 4 i + 1.75.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        hidden: int = 96,
        cell_center: float = 1.75 / 4,
    ) -> None:
        super().__init__()
        width, height = feature_size
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, num_joints, 1),
        )
        self.mlp_head_x = nn.Linear(width * height, bins[0])
        self.mlp_head_y = nn.Linear(width * height, bins[1])
        with torch.no_grad():
            columns = _interpolation(bins[0], width, cell_center)[:, None, :]
            rows = _interpolation(bins[1], height, cell_center)[:, :, None]
            self.mlp_head_x.weight.copy_(columns.expand(-1, height, -1).flatten(1))
            self.mlp_head_y.weight.copy_(rows.expand(-1, -1, width).flatten(1))
            self.mlp_head_x.bias.zero_()
            self.mlp_head_y.bias.zero_()

    def forward(self, feature: Tensor) -> SimCCLogits:
        """Score the bins ``(B, K, nx)`` and ``(B, K, ny)`` of a feature map ``(B, C, h, w)``."""
        maps = F.leaky_relu(self.maps(feature) + _LIFT, 0.01).flatten(2)
        return SimCCLogits(self.mlp_head_x(maps), self.mlp_head_y(maps))


def _interpolation(bins: int, cells: int, center: float) -> Tensor:
    """Weights ``(bins, cells)`` that read a row of cells at the bins' places."""
    place = (torch.arange(bins) * (cells / bins) - center).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)
