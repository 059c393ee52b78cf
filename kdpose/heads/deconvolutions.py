"""Deconvolutions that enlarge a coarse map to heatmaps (Xiao et al., ECCV 2018; ViTPose)."""

from torch import Tensor, nn

_MOST = 4  # doublings: from stride 64 to 4
_WIDEST = 4096  # channels: a checkpoint may ask for them


class DeconvolutionsHead(nn.Module):
    """Transposed convolutions 4x4 of stride 2 with batch norm and ReLU, then 1x1 to K maps.

    How many follows from the sizes: three from stride 32 to 4 as in SimpleBaseline, two from 16 as
    in ViTPose. All start as published: weights N(0, 0.001), the last layer without bias.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(w, h)`` of the codec's maps.
        channels: of each deconvolution's result.

    Raises:
        ValueError: the codec's maps are not the feature map, doubled once or several
            times, or there are too many channels.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        channels: int = 256,
    ) -> None:
        super().__init__()
        if not 1 <= channels <= _WIDEST:
            raise ValueError(f"head.channels must be 1 to {_WIDEST}, got {channels}")
        layers: list[nn.Module] = []
        for _ in range(_doublings(feature_size, bins)):
            layers += [
                nn.ConvTranspose2d(in_channels, channels, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            in_channels = channels
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(channels, num_joints, kernel_size=1)
        for layer in (*layers, self.final_layer):
            if isinstance(layer, nn.ConvTranspose2d | nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.001)
        nn.init.zeros_(self.final_layer.get_parameter("bias"))

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature ``(B, C, h, w)`` to heatmaps ``(B, K, n h, n w)``, n a power of 2."""
        maps: Tensor = self.final_layer(self.deconv_layers(feature))
        return maps


def _doublings(feature_size: tuple[int, int], bins: tuple[int, int]) -> int:
    """How often the feature map must double to become the codec's maps."""
    if tuple(feature_size) == tuple(bins):
        raise ValueError(
            f"the feature has the {tuple(bins)} cells of the codec's maps already: take "
            "head=heatmap"
        )
    count = max(bins[0] // max(feature_size[0], 1), 1).bit_length() - 1
    if not 1 <= count <= _MOST or tuple(bins) != tuple(side << count for side in feature_size):
        raise ValueError(
            f"deconvolutions double the feature's {tuple(feature_size)} cells one to "
            f"{_MOST} times, which does not give the codec's {tuple(bins)}: take codec=heatmap, "
            "dark or udp and a codec.input_size that the backbone's stride divides"
        )
    return count
