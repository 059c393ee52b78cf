"""SimCC on top of a heatmap network's own maps, so that such a network can be the start."""

from torch import Tensor, nn
from torch.nn import functional as F

from kdpose.heads.axes import axis_layer, interpolation, lines, start_as_sums
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
        rank: of the linear layers' matrices, see :class:`LowRankLinear`; None: whole matrices.

    Raises:
        ValueError: the rank is lower than the map's sides.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        hidden: int = 96,
        cell_center: float = 1.75 / 4,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        width, height = feature_size
        self.maps = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, num_joints, 1),
        )
        self.mlp_head_x = axis_layer(width * height, bins[0], rank)
        self.mlp_head_y = axis_layer(width * height, bins[1], rank)
        for axis, (layer, side) in enumerate(((self.mlp_head_x, width), (self.mlp_head_y, height))):
            table = interpolation(bins[axis], side, cell_center)
            start_as_sums(layer, table, lines(width, height, axis))

    def forward(self, feature: Tensor) -> SimCCLogits:
        """Score the bins ``(B, K, nx)`` and ``(B, K, ny)`` of a feature map ``(B, C, h, w)``."""
        maps = F.leaky_relu(self.maps(feature) + _LIFT, 0.01).flatten(2)
        return SimCCLogits(self.mlp_head_x(maps), self.mlp_head_y(maps))
