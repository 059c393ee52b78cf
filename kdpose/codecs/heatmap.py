"""Heatmaps: a joint as a Gaussian bump on a coarse map, as HRNet is trained and decoded.

Cell (i, j) of a map is crop pixel (4 i, 4 j), where HRNet's strided convolutions are centred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpose.codecs import STRIDE, check_joints, whole_cells
from kdpose.codecs.gaussian_maps import box_inside, boxes, gaussians
from kdpose.codecs.spread import map_spread
from kdpose.types import HeatmapTarget, Pose


@dataclass(frozen=True)
class Heatmap:
    """Encodes joints as Gaussian maps and decodes maps to joints.

    Attributes:
        input_size: network input ``(W, H)``, pixels.
        sigma: standard deviation of the target, cells.

    Raises:
        ValueError: a field is out of range.
    """

    input_size: tuple[int, int]
    sigma: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", whole_cells(self.input_size))
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive (cells), got {self.sigma}")

    @property
    def bins(self) -> tuple[int, int]:
        """Cells of a map ``(w, h)``."""
        return self.input_size[0] // STRIDE, self.input_size[1] // STRIDE

    @property
    def flip_shift(self) -> float:
        """Cells by which :meth:`unflip` moves the mirrored maps."""
        return 1.0

    @property
    def score_threshold(self) -> float:
        """Joint scores up to this are excluded from a person's score, as in HRNet's evaluation."""
        return 0.2

    def encode(self, joints: Tensor, visible: Tensor) -> HeatmapTarget:
        """Target maps and weights, as the reference implementation builds them.

        The bump has its peak, 1, at the nearest cell and ends 3 sigma from it along each axis.
        If that box is completely outside the map, the joint's weight and map are 0.

        Args:
            joints: ``(B, K, 2)``, (x, y), crop pixels.
            visible: ``(B, K)``, COCO's v.

        Returns:
            Float32 target on the device of ``joints``; its weights are 0 or 1.

        Raises:
            ValueError: ``visible`` does not fit ``joints``.
        """
        check_joints(joints, visible)
        peak = (joints.float() / STRIDE + 0.5).trunc()
        reach = 3 * self.sigma
        weight = visible.float().clamp(0, 1) * box_inside(peak, reach, self.bins)
        maps = gaussians(peak, self.sigma, self.bins) * boxes(peak, reach, self.bins)
        return HeatmapTarget(maps * weight[..., None, None], weight)

    def as_target(self, maps: Tensor, weight: Tensor) -> HeatmapTarget:
        """A network's maps as a target, with joint weights ``(B, K)``."""
        return HeatmapTarget(maps.float(), weight)

    def decode(self, maps: Tensor) -> Pose:
        """Joints at the maxima ``(B, K, 2)``, crop pixels, and the maxima as scores.

        A maximum moves 0.25 cell towards the higher of its neighbours along each axis, unless it
        is within a cell of the border. A joint without a positive value is at 0. Both follow the
        reference implementation.

        Args:
            maps: ``(B, K, h, w)``.
        """
        cells, score = peaks(maps.float())
        return Pose(cells * STRIDE, score)

    def spread(self, maps: Tensor) -> Tensor:
        """Standard deviations ``(B, K, 2)`` of the maps' peaks along x and y, crop pixels."""
        return map_spread(maps) * STRIDE

    def expectation(self, maps: Tensor, temperature: float = 1.0) -> Tensor:
        """The decoded joints ``(B, K, 2)``, crop pixels, as a teacher's.

        Heatmaps are not distributions with a mean, so ``temperature`` is not used and there is no
        gradient.

        Raises:
            ValueError: a gradient is required.
        """
        if maps.requires_grad:
            raise ValueError(
                "the joints of heatmaps have no gradient: train a heatmap network without a "
                "teacher (teacher=null), or a student with codec=simcc head=simcc"
            )
        return self.decode(maps).joints

    def unflip(self, maps: Tensor, flip_order: Sequence[int]) -> Tensor:
        """Map the maps of a horizontally mirrored crop back to the crop.

        Mirroring takes pixel u to W - 1 - u, which lies between cells; the reference shifts the
        reversed map right by one cell, repeating the first column.

        Args:
            maps: ``(B, K, h, w)`` of the mirrored crop.
            flip_order: K joint indices, ``Skeleton.flip_order``.
        """
        back = maps[:, list(flip_order)].flip(-1)
        return torch.cat([back[..., :1], back[..., :-1]], dim=-1)

    def merge(self, maps: Tensor, mirrored: Tensor) -> Tensor:
        """Average two views of one crop; ``mirrored`` comes from :meth:`unflip`."""
        return (maps.float() + mirrored.float()) / 2


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Places ``(B, K, 2)`` of the maxima of ``(B, K, h, w)``, in cells, and their values.

    See :meth:`Heatmap.decode`.
    """
    width = maps.shape[-1]
    score, index = maps.flatten(2).max(-1)
    column, row = index % width, index // width
    cells = torch.stack([column, row], dim=-1).to(maps.dtype)
    return (cells + 0.25 * _slope(maps, column, row)) * (score > 0)[..., None], score


def _slope(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Signs ``(B, K, 2)`` of the slopes at cells, 0 for those within a cell of the border."""
    height, width = maps.shape[-2:]
    inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    cells = maps.flatten(2)

    def at(dx: int, dy: int) -> Tensor:
        index = (row + dy).clamp(0, height - 1) * width + (column + dx).clamp(0, width - 1)
        return cells.gather(-1, index[..., None])[..., 0]

    slope = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], dim=-1)
    return slope.sign() * inner[..., None]
