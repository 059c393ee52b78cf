"""UDP: heatmaps whose cells lie where resizing and mirroring put them (Huang et al., CVPR 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kdpose.codecs import check_joints
from kdpose.codecs.gaussian_maps import box_inside, boxes, check_kernel, fitted_peaks, gaussians
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.spread import map_spread
from kdpose.types import HeatmapTarget, Pose


@dataclass(frozen=True)
class UDP(Heatmap):
    """Heatmaps of w cells over W pixels, whose first and last cells are the first and last pixels.

    Cell i is crop pixel i (W - 1) / (w - 1). Mirroring takes pixel u to W - 1 - u, hence cell i to
    w - 1 - i exactly: the flip test needs no shift. Targets are Gaussians around the joint's own
    place. Crops are cut as everywhere in kdpose, where pixels are mapped back by the transform
    that cut them, so that the published change of their scale by (W - 1) / W is not needed.

    Attributes:
        input_size: network input ``(W, H)``, pixels.
        sigma: standard deviation of the target, cells.
        kernel: cells of the blur before the fit.

    Raises:
        ValueError: a field is out of range.
    """

    kernel: int = 11

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel(self.kernel)
        if min(self.bins) < 2:
            raise ValueError(f"UDP's maps need two cells a side, so 8 px, got {self.input_size}")

    @property
    def flip_shift(self) -> float:
        """None: the mirrored maps fit."""
        return 0.0

    def encode(self, joints: Tensor, visible: Tensor) -> HeatmapTarget:
        """Target maps and weights.

        The Gaussian is around the joint and ends 3 sigma from the nearest cell along each axis. If
        that box is completely outside the map, the joint's weight and map are 0.

        Args:
            joints: ``(B, K, 2)``, (x, y), crop pixels.
            visible: ``(B, K)``, COCO's v.

        Returns:
            Float32 target on the device of ``joints``; its weights are 0 or 1.

        Raises:
            ValueError: ``visible`` does not fit ``joints``.
        """
        check_joints(joints, visible)
        centres = joints.float() / self._pixels(joints.float())
        nearest, reach = (centres + 0.5).trunc(), 3 * self.sigma
        weight = visible.float().clamp(0, 1) * box_inside(nearest, reach, self.bins)
        maps = gaussians(centres, self.sigma, self.bins)
        near = boxes(nearest, reach, self.bins)
        return HeatmapTarget(maps * near * weight[..., None, None], weight)

    def decode(self, maps: Tensor) -> Pose:
        """Joints at the fitted peaks ``(B, K, 2)``, crop pixels, and the maxima as scores.

        See :func:`kdpose.codecs.gaussian_maps.fitted_peaks`; the second derivatives are of step 1.

        Args:
            maps: ``(B, K, h, w)``.
        """
        cells, score = fitted_peaks(maps.float(), self.kernel, reach=1)
        return Pose(cells * self._pixels(cells), score)

    def spread(self, maps: Tensor) -> Tensor:
        """Standard deviations ``(B, K, 2)`` of the maps' peaks along x and y, crop pixels."""
        wide = map_spread(maps)
        return wide * self._pixels(wide)

    def unflip(self, maps: Tensor, flip_order: Sequence[int]) -> Tensor:
        """Map the maps of a horizontally mirrored crop back to the crop.

        Args:
            maps: ``(B, K, h, w)`` of the mirrored crop.
            flip_order: K joint indices, ``Skeleton.flip_order``.
        """
        return maps[:, list(flip_order)].flip(-1)

    def _pixels(self, like: Tensor) -> Tensor:
        """Crop pixels per cell along x and y."""
        return like.new_tensor(
            [(s - 1) / (n - 1) for s, n in zip(self.input_size, self.bins, strict=True)]
        )
