"""DARK: heatmaps that say where between the cells a joint is (Zhang et al., CVPR 2020)."""

from dataclasses import dataclass

from torch import Tensor

from kdpose.codecs import STRIDE, check_joints
from kdpose.codecs.gaussian_maps import box_inside, check_kernel, fitted_peaks, gaussians
from kdpose.codecs.heatmap import Heatmap
from kdpose.types import HeatmapTarget, Pose


@dataclass(frozen=True)
class Dark(Heatmap):
    """Heatmaps around the joint's own place, decoded by fitting a Gaussian to the peak.

    Flips and cells are those of :class:`Heatmap`, as the method was published: a mirrored map
    still moves by a whole cell.

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

    def encode(self, joints: Tensor, visible: Tensor) -> HeatmapTarget:
        """Target maps, Gaussians around joint / 4, neither rounded nor cut off, and weights.

        If the box of 3 sigma around a joint is completely outside the map, its weight and map
        are 0.

        Args:
            joints: ``(B, K, 2)``, (x, y), crop pixels.
            visible: ``(B, K)``, COCO's v.

        Returns:
            Float32 target on the device of ``joints``; its weights are 0 or 1.

        Raises:
            ValueError: ``visible`` does not fit ``joints``.
        """
        check_joints(joints, visible)
        centres = joints.float() / STRIDE
        weight = visible.float().clamp(0, 1) * box_inside(centres, 3 * self.sigma, self.bins)
        maps = gaussians(centres, self.sigma, self.bins)
        return HeatmapTarget(maps * weight[..., None, None], weight)

    def decode(self, maps: Tensor) -> Pose:
        """Joints at the fitted peaks ``(B, K, 2)``, crop pixels, and the maxima as scores.

        See :func:`kdpose.codecs.gaussian_maps.fitted_peaks`; the second derivatives are of step 2.

        Args:
            maps: ``(B, K, h, w)``.
        """
        cells, score = fitted_peaks(maps.float(), self.kernel, reach=2)
        return Pose(cells * STRIDE, score)
