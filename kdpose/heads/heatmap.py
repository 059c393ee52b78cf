"""HRNet's heatmap head: one map per joint on the finest feature (Sun et al., CVPR 2019)."""

from collections.abc import Sequence

from torch import Tensor, nn

STRIDE_4 = "take a backbone with a stride-4 map and codec=heatmap"


def check_same_size(
    head: str, feature_size: Sequence[int], bins: Sequence[int], remedy: str
) -> None:
    """Check that a head's maps, of its feature's size, are the codec's.

    Raises:
        ValueError: they are not; the line begins with ``head`` and ends with ``remedy``.
    """
    if tuple(feature_size) != tuple(bins):
        raise ValueError(
            f"{head} maps of the feature's size {tuple(feature_size)}, and the codec's have "
            f"{tuple(bins)}: {remedy}"
        )


class HeatmapHead(nn.Module):
    """1x1 convolution to K maps, of the feature's own size.

    The submodule is named as in the reference implementation's checkpoints and starts like there:
    N(0, 0.001) without bias.

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
        super().__init__()
        remedy = "take codec=heatmap with this head"
        check_same_size("a heatmap head needs", feature_size, bins, remedy)
        self.final_layer = nn.Conv2d(in_channels, num_joints, kernel_size=1)
        nn.init.normal_(self.final_layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature ``(B, C, h, w)`` to heatmaps ``(B, K, h, w)``."""
        maps: Tensor = self.final_layer(feature)
        return maps
