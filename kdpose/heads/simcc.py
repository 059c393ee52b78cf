"""SimCC head: one map per joint, read off along both axes by two linear layers."""

import math
from typing import Literal

from torch import Tensor, nn

from kdpose.heads.axes import axis_layer, interpolation, lines, start_as_sums
from kdpose.types import SimCCLogits


class SimCCHead(nn.Module):
    """1x1 convolution to K maps, then one linear layer per axis, shared by all joints.

    Submodules are named as in the reference implementation's checkpoints.

    ``official`` is its initialisation: convolution N(0, 0.001) without bias, linear layers as
    torch leaves them. From there a network without pretrained weights must first learn which of
    its h * w inputs lies where, from a map that is almost zero.

    ``projection`` (ours, for training from scratch) starts the linear layers as what they end up
    as: the map averaged over rows (for x) or columns (for y) and interpolated linearly at the
    bins. So the head shifts with its input from the first step, and it is a start only: all
    weights stay free. The average is multiplied by sqrt(rows) (sqrt(columns)), which gives the
    weights of a bin unit norm: logits then have the scale of the map, as from any layer that
    keeps variance. By the plain sum a map of unit noise would give logits of standard deviation
    8 (64 rows) and a saturated softmax; by the plain mean its gradient would fade as much.
    A map's mean level adds the same to every bin, which softmax ignores.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(nx, ny)`` SimCC bins.
        init: ``official`` or ``projection``.
        rank: of the linear layers' matrices, see :class:`LowRankLinear`; None: whole matrices.

    Raises:
        ValueError: ``init`` is unknown, or the rank too low to start as a projection.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        init: Literal["official", "projection"] = "official",
        rank: int | None = None,
    ) -> None:
        super().__init__()
        if init not in ("official", "projection"):
            raise ValueError(f"init must be 'official' or 'projection', got '{init}'")
        self.feature_size = (feature_size[0], feature_size[1])
        cells = feature_size[0] * feature_size[1]
        self.final_layer = nn.Conv2d(in_channels, num_joints, kernel_size=1)
        self.mlp_head_x = axis_layer(cells, bins[0], rank)
        self.mlp_head_y = axis_layer(cells, bins[1], rank)
        if init == "official":
            nn.init.normal_(self.final_layer.weight, std=0.001)
            nn.init.zeros_(self.final_layer.get_parameter("bias"))
        else:
            width, height = self.feature_size  # cell 0 is centred on pixel 0 in HRNet's strided
            x, y = interpolation(bins[0], width), interpolation(bins[1], height)  # convolutions
            start_as_sums(self.mlp_head_x, x / math.sqrt(height), lines(width, height, 0))
            start_as_sums(self.mlp_head_y, y / math.sqrt(width), lines(width, height, 1))

    def forward(self, feature: Tensor) -> SimCCLogits:
        """Score the bins.

        Args:
            feature: ``(B, C, h, w)``.

        Returns:
            Logits ``(B, K, nx)`` and ``(B, K, ny)``.

        Raises:
            ValueError: the map has another size than the head was built for.
        """
        width, height = self.feature_size
        if feature.shape[-2:] != (height, width):
            raise ValueError(
                f"the head's feature must be (B, C, {height}, {width}), got {tuple(feature.shape)}"
            )
        maps = self.final_layer(feature).flatten(2)
        return SimCCLogits(self.mlp_head_x(maps), self.mlp_head_y(maps))
