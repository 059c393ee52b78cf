"""OPEC-Net: a pose refined where the module's own heatmaps find the joints (ECCV 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdpose.refiners.igp_gcn import IGPGCN, STRIDES
from kdpose.types import Pose


class OPECNet(IGPGCN):
    """The refiner that the IGP-GCN was made from (Qiu et al., ECCV 2020), as published.

    Graph and maps are those of :class:`IGPGCN`, with absolute outputs. But the maps are read at
    joints that it finds itself: the finest map becomes K heatmaps by a 3x3 convolution, and each
    joint is the mean of its heatmap's softmax. These joints are trained too, and gradients reach
    them through the reading. The graph still starts from the given pose.

    The published code reads its maps on a grid that is off by up to a cell; here joints read the
    cell that they lie in. Its initial poses are another network's results in a file, and its
    backbone learns with it; here both are those of a frozen student.

    Args:
        channels: channels of the maps in ``PoseOutput.features``, fine to coarse.
        strides: their strides in crop pixels; 16, 8 and 4 are used.
        input_size: (W, H) of the crop in pixels, the unit of the graph's coordinates.
        num_joints: K.
        limbs: joint index pairs, undirected.
        hidden: channels per joint before image features are added.
        widths: channels read from the maps of stride 16, 8, 4.
        backend: ``pyg`` or ``dense`` graph convolutions, see :class:`SemGraphConv`.

    Raises:
        ValueError: a stride is missing, or a width does not fit the blocks.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        input_size: tuple[int, int],
        num_joints: int,
        limbs: Sequence[tuple[int, int]],
        hidden: int = 128,
        widths: tuple[int, int, int] = (256, 128, 128),
        backend: str = "pyg",
    ) -> None:
        super().__init__(channels, strides, input_size, num_joints, limbs, hidden, widths, backend)
        self.heat = nn.Conv2d(widths[-1], num_joints, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(self.heat.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pose: Pose, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Find the joints in the maps, then refine a pose three times; the last is the result.

        Args:
            pose: initial joints ``(B, K, 2)`` in crop pixels and their scores ``(B, K)``.
            features: maps as in ``PoseOutput.features``, fine to coarse.

        Returns:
            Joints ``(B, K, 2)`` float32, crop pixels: those of the heatmaps, then the refined ones
            from the coarse to the fine block.

        Raises:
            ValueError: the maps' sizes do not double, rounded up, from stride 16 to 8 to 4.
        """
        maps = self.head(*(features[level] for level in self.levels))
        found = mean_places(self.heat(maps[-1])) * STRIDES[-1]
        return (found, *self.refine(pose, maps, found))


def mean_places(maps: Tensor) -> Tensor:
    """Means ``(B, K, 2)``, in cells, of the softmaxes of maps ``(B, K, h, w)``, in float32."""
    probability = maps.float().flatten(2).softmax(-1).reshape(maps.shape)
    means = []
    for axis in (-2, -1):  # x is what y is summed over
        line = probability.sum(axis)
        cells = torch.arange(line.shape[-1], device=line.device, dtype=line.dtype)
        means.append((line * cells).sum(-1))  # not a matrix product, which autocast would round
    return torch.stack(means, dim=-1)
