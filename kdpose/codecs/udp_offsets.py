"""UDP with offsets: near a joint or not, and how far it is from there (Huang et al., CVPR 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpose.codecs import check_joints
from kdpose.codecs.gaussian_maps import check_kernel, smoothed
from kdpose.codecs.udp import UDP
from kdpose.types import HeatmapTarget, Pose


@dataclass(frozen=True)
class UDPOffsets(UDP):
    r"""Three maps per joint on UDP's cells: classification and regression combined.

    With the joint at cell (m, n) and the radius R, cell (x, y) has

    .. math:: H = [(x - m)^2 + (y - n)^2 \le R^2], \quad X = (m - x) / R, \quad Y = (n - y) / R,

    the offsets where H is 1. Decoding takes the highest cell of the smoothed H and adds the
    smoothed offsets there. Crops are cut as :class:`UDP` says.

    Attributes:
        input_size: network input ``(W, H)``, pixels.
        sigma: not used.
        kernel: cells of the Gaussian that smooths H; the published code's.
        offset_kernel: of the one that smooths the offsets; for so small a kernel OpenCV, which the
            published code calls, has another table, which moves a joint by 0.01 cells.
        radius: R, cells.

    Raises:
        ValueError: a field is out of range.
    """

    kernel: int = 15
    offset_kernel: int = 7
    radius: float = 3.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kernel(self.offset_kernel)
        if self.radius <= 0:
            raise ValueError(f"radius must be positive (cells), got {self.radius}")
        if min(self.bins) <= self.kernel // 2:
            raise ValueError(
                f"a kernel of {self.kernel} cells needs maps of {self.kernel // 2 + 1} cells a "
                f"side or more, got {self.bins} at input_size={self.input_size}"
            )

    def encode(self, joints: Tensor, visible: Tensor) -> HeatmapTarget:
        """Target maps ``(B, K, 3, h, w)``, H, X, Y, and weights.

        A joint whose disc has no cell of the map has weight 0.

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
        x, y = (
            (centres[..., axis, None] - torch.arange(count, device=joints.device)) / self.radius
            for axis, count in enumerate(self.bins)
        )
        x, y = torch.broadcast_tensors(x[..., None, :], y[..., :, None])
        near = (x.square() + y.square() <= 1).float()
        weight = visible.float().clamp(0, 1) * near.amax((-2, -1))
        maps = torch.stack([near, near * x, near * y], dim=2)
        return HeatmapTarget(maps * weight[..., None, None, None], weight)

    def decode(self, maps: Tensor) -> Pose:
        """Joints ``(B, K, 2)``, crop pixels, and the smoothed maxima of H as scores.

        Args:
            maps: ``(B, K, 3, h, w)``.
        """
        near, x, y = maps.float().unbind(2)
        score, index = smoothed(near, self.kernel, "reflect").flatten(2).max(-1)
        x, y = (
            smoothed(offset, self.offset_kernel, "reflect")
            .flatten(2)
            .gather(-1, index[..., None])[..., 0]
            for offset in (x, y)
        )
        width = maps.shape[-1]
        cells = torch.stack([index % width + x * self.radius, index // width + y * self.radius], -1)
        return Pose(cells * self._pixels(cells), score)

    def spread(self, maps: Tensor) -> Tensor:
        """Standard deviations ``(B, K, 2)`` of the discs H along x and y, crop pixels."""
        return super().spread(maps[:, :, 0])

    def unflip(self, maps: Tensor, flip_order: Sequence[int]) -> Tensor:
        """Map the maps of a horizontally mirrored crop back to the crop: offsets along x negated.

        Args:
            maps: ``(B, K, 3, h, w)`` of the mirrored crop.
            flip_order: K joint indices, ``Skeleton.flip_order``.
        """
        back = super().unflip(maps, flip_order)
        return back * back.new_tensor([1.0, -1.0, 1.0])[:, None, None]
