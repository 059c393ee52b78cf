"""Three maps per joint for UDP's combined targets (Huang et al., CVPR 2020)."""

from torch import Tensor

from kdpose.heads.heatmap import HeatmapHead


class OffsetMapsHead(HeatmapHead):
    """1x1 convolution to 3 K maps, a joint's three one after another.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(w, h)`` of the codec's maps.

    Raises:
        ValueError: the two sizes differ.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
    ) -> None:
        super().__init__(in_channels, 3 * num_joints, feature_size, bins)

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature ``(B, C, h, w)`` to maps ``(B, K, 3, h, w)``."""
        return super().forward(feature).unflatten(1, (-1, 3))
