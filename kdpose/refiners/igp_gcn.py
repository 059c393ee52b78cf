"""Image-Guided Progressive GCN: refines a pose from coarse to fine image features (stage 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdpose.refiners.sem_graph_conv import SemGraphConv
from kdpose.types import Pose

STRIDES = (16, 8, 4)  # the three maps of the paper's section III-B1, coarse to fine


def sample_at_joints(features: Tensor, joints: Tensor, stride: int) -> Tensor:
    """Sample a map bilinearly at the joints; outside, at its border.

    Index i of a map of stride s is centred on crop pixel s * i, as in every network whose strided
    layers are 3x3 convolutions with padding 1.

    Args:
        features: ``(B, C, h, w)``.
        joints: ``(B, K, 2)``, (x, y), crop pixels.
        stride: crop pixels per cell of the map.

    Returns:
        ``(B, K, C)`` float32.
    """
    height, width = features.shape[-2:]
    size = joints.new_tensor([width, height], dtype=torch.float32)
    grid = (2 * joints.float() / stride + 1) / size - 1  # the inverse of align_corners=False
    sampled = F.grid_sample(
        features.float(), grid[:, None], padding_mode="border", align_corners=False
    )
    return sampled[:, :, 0].transpose(1, 2)


class _Fusion(nn.Module):
    """Doubles a coarse map, weights its channels by squeeze and excitation, adds the finer map."""

    def __init__(self, coarse: int, fine: int, out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2)
        self.squeeze = nn.Linear(2 * fine, fine)
        self.excite = nn.Linear(fine, fine)
        self.conv = nn.Conv2d(fine, out, kernel_size=3, padding=1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        height, width = fine.shape[-2:]
        if tuple(coarse.shape[-2:]) != ((height + 1) // 2, (width + 1) // 2):
            raise ValueError(
                f"maps of strides 16, 8, 4 must double in size, got {tuple(coarse.shape[-2:])} "
                f"followed by {(height, width)}; make the input size a multiple of 16"
            )
        up = F.relu(self.up(coarse))[..., :height, :width]  # of an odd size, one cell too many
        gate = torch.cat([up, fine], dim=1).mean(dim=(2, 3))
        gate = self.excite(F.relu(self.squeeze(gate))).sigmoid()
        return F.relu(self.conv(up * gate[..., None, None] + fine))


class _ImageHead(nn.Module):
    """Turns the backbone's maps of strides 16, 8, 4 into the maps that the joints read."""

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels[0], widths[0], kernel_size=3, padding=1)
        self.fuse8 = _Fusion(widths[0], channels[1], widths[1])
        self.fuse4 = _Fusion(widths[1], channels[2], widths[2])
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, map16: Tensor, map8: Tensor, map4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        coarse = F.relu(self.conv(map16))
        middle = self.fuse8(coarse, map8)
        return coarse, middle, self.fuse4(middle, map4)


def _normed(norm: nn.BatchNorm1d, nodes: Tensor) -> Tensor:
    """BatchNorm of ``(B, K, C)`` over persons and joints, then ReLU."""
    return F.relu(norm(nodes.flatten(0, 1)).reshape(nodes.shape))


class _ResGCNBlock(nn.Module):
    """Residual graph block with a learned attention over joints."""

    def __init__(
        self, channels: int, limbs: Sequence[tuple[int, int]], num_joints: int, backend: str
    ) -> None:
        super().__init__()
        self.reduce = SemGraphConv(channels, channels // 2, limbs, num_joints, backend)
        self.reduce_norm = nn.BatchNorm1d(channels // 2)
        self.expand = SemGraphConv(channels // 2, channels, limbs, num_joints, backend)
        self.norm = nn.BatchNorm1d(channels)
        self.attention = nn.Sequential(
            nn.Linear(channels, channels // 4),
            nn.ReLU(),
            nn.Linear(channels // 4, num_joints),
            nn.Sigmoid(),
        )

    def forward(self, nodes: Tensor) -> Tensor:
        change = self.expand(_normed(self.reduce_norm, self.reduce(nodes)))
        nodes = _normed(self.norm, nodes + change)
        return nodes * (1 + self.attention(nodes.mean(dim=1))[..., None])


def _check_maps(channels: Sequence[int], strides: Sequence[int], sizes: Sequence[int]) -> None:
    missing = [s for s in STRIDES if s not in strides]
    if missing or len(strides) != len(channels):
        raise ValueError(
            f"the features must have one map each of strides 16, 8 and 4, got strides "
            f"{list(strides)} with channels {list(channels)}"
        )
    if any(size % 4 for size in sizes):
        hidden, *widths = sizes
        raise ValueError(f"hidden and widths must be multiples of 4, got {hidden}, {tuple(widths)}")


class IGPGCN(nn.Module):
    """Image-Guided Progressive GCN (paper section III-B1; OPEC-Net rescaled to HRNet's maps).

    An input layer and a block use the pose alone. Three more blocks each add the image features
    at the initial joints, from stride 16 to 4, and return a pose.

    Args:
        channels: channels of the maps in ``PoseOutput.features``, fine to coarse.
        strides: their strides in crop pixels; 16, 8 and 4 are used.
        input_size: (W, H) of the crop in pixels, the unit of the graph's coordinates.
        num_joints: K.
        limbs: joint index pairs, undirected.
        hidden: channels per joint before image features are added.
        widths: channels read from the maps of stride 16, 8, 4.
        backend: ``pyg`` or ``dense`` graph convolutions, see :class:`SemGraphConv`.
        residual: add the outputs to the initial pose, which an untrained network then returns
            unchanged; otherwise, as published, the outputs are coordinates.
        with_score: use the joints' scores beside their coordinates.

    Raises:
        ValueError: a stride is missing, or a width does not fit the blocks.
    """

    half_size: Tensor

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
        residual: bool = False,
        with_score: bool = True,
    ) -> None:
        super().__init__()
        _check_maps(channels, strides, (hidden, *widths))
        self.levels = tuple(list(strides).index(s) for s in STRIDES)
        self.residual, self.with_score = residual, with_score
        half_size = torch.tensor(list(input_size), dtype=torch.float32) / 2
        self.register_buffer("half_size", half_size, persistent=False)
        self.head = _ImageHead([channels[i] for i in self.levels], widths)

        sizes = [hidden]
        for width in widths:
            sizes.append(sizes[-1] + width)
        graph = (limbs, num_joints, backend)
        self.input = SemGraphConv(3 if with_score else 2, hidden, *graph)
        self.input_norm = nn.BatchNorm1d(hidden)
        self.pose_block = _ResGCNBlock(hidden, *graph)
        self.blocks = nn.ModuleList(_ResGCNBlock(size, *graph) for size in sizes[1:])
        outputs = [SemGraphConv(size, 2, *graph) for size in sizes[1:]]
        for output in outputs if residual else ():
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
        self.outputs = nn.ModuleList(outputs)

    def forward(self, pose: Pose, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Refine a pose three times; the last is the result.

        Args:
            pose: initial joints ``(B, K, 2)`` in crop pixels and their scores ``(B, K)``.
            features: maps as in ``PoseOutput.features``, fine to coarse.

        Returns:
            Refined joints ``(B, K, 2)`` float32, crop pixels, from the coarse to the fine block.

        Raises:
            ValueError: the maps' sizes do not double, rounded up, from stride 16 to 8 to 4.
        """
        maps = self.head(*(features[level] for level in self.levels))
        return self.refine(pose, maps, pose.joints.float().detach())

    def refine(self, pose: Pose, maps: tuple[Tensor, ...], places: Tensor) -> tuple[Tensor, ...]:
        """Refine a pose by what the image head's maps hold at ``places (B, K, 2)``, crop pixels."""
        joints, scores, device = pose.joints.float(), pose.scores.float(), pose.joints.device.type
        if not torch.is_autocast_enabled(device):
            return self._refine(joints, scores, maps, places)
        # Coordinates are channels of the joints, where each rounding to bfloat16 would cost
        # up to a quarter of a pixel.
        with torch.autocast(device, enabled=False):
            return self._refine(joints, scores, maps, places)

    def _refine(
        self, joints: Tensor, scores: Tensor, maps: tuple[Tensor, ...], places: Tensor
    ) -> tuple[Tensor, ...]:
        nodes = joints / self.half_size - 1  # pixels to [-1, 1]
        if self.with_score:
            nodes = torch.cat([nodes, scores[..., None]], dim=-1)
        nodes = self.pose_block(_normed(self.input_norm, self.input(nodes)))
        base = joints if self.residual else self.half_size
        refined = []
        for guide, stride, block, output in zip(
            maps, STRIDES, self.blocks, self.outputs, strict=True
        ):
            seen = sample_at_joints(guide, places, stride)
            nodes = block(torch.cat([seen, nodes], dim=-1))
            refined.append(base + output(nodes) * self.half_size)
        return tuple(refined)
