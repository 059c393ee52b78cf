"""TransPose: attention between all cells of a convolutional map (Yang et al., ICCV 2021)."""

from torch import Tensor, nn

from kdpose.heads.attention import sine_positions
from kdpose.heads.heatmap import STRIDE_4, check_same_size


class _Layer(nn.Module):
    """A post-norm encoder layer whose queries and keys carry the positions, its values none."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp), nn.ReLU(), nn.Linear(mlp, dim))

    def forward(self, cells: Tensor, positions: Tensor) -> Tensor:
        placed = cells + positions
        seen, _ = self.attention(placed, placed, cells, need_weights=False)
        cells = self.norm1(cells + seen)
        normed: Tensor = self.norm2(cells + self.mlp(cells))
        return normed


class TransPoseHead(nn.Module):
    """A transformer's encoder over the map's cells, and a 1x1 convolution to K maps.

    The published model trains with dropout of 0.1, which this one lacks.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(w, h)`` of the codec's maps.
        dim: of a cell's token.
        depth: layers.
        heads: of each layer's attention.
        mlp: hidden width of a layer's perceptron.

    Raises:
        ValueError: the maps are not of the feature's size.
    """

    positions: Tensor

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        dim: int = 96,
        depth: int = 6,
        heads: int = 1,
        mlp: int = 192,
    ) -> None:
        super().__init__()
        check_same_size("TransPose gives", feature_size, bins, STRIDE_4)
        self.project = nn.Conv2d(in_channels, dim, 1, bias=False)
        positions = sine_positions((feature_size[0], feature_size[1]), dim)
        self.register_buffer("positions", positions, persistent=False)
        self.layers = nn.ModuleList(_Layer(dim, heads, mlp) for _ in range(depth))
        self.final_layer = nn.Conv2d(dim, num_joints, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map a feature ``(B, C, h, w)`` to heatmaps ``(B, K, h, w)``."""
        projected = self.project(feature)
        cells = projected.flatten(2).transpose(1, 2)
        for layer in self.layers:
            cells = layer(cells, self.positions)
        maps: Tensor = self.final_layer(cells.transpose(1, 2).reshape(projected.shape))
        return maps
