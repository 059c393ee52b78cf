"""Feature maps of another project's network, aligned with the student's crop."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdpose.checkpoints.guest_net import GuestNet


class GuestFeature:
    """What Eq. 1 compares where the teacher's poses are stored: its map, computed at every step.

    The teacher sees the student's crop, scaled to fit into its own input and padded with black, so
    that both maps are of the same pixels.

    Args:
        net: has a feature map.

    Attributes:
        channels: C of the map.

    Raises:
        ValueError: the network names no feature map; the message lists those inside it.
    """

    def __init__(self, net: GuestNet) -> None:
        width, height = net.codec.input_size
        trial = net.feature(torch.zeros(1, 3, height, width, dtype=torch.uint8))
        if trial is None:
            maps = net.feature_maps()
            inner = f"teacher.feature=NAME of {', '.join(maps)}, or " if maps else ""
            raise ValueError(
                f"Eq. 1 compares feature maps at every step, and teacher {net.name} teaches by "
                f"stored poses: take {inner}loss without feature_mse"
            )
        self.net, self.channels = net, trial.shape[1]

    def to(self, device: torch.device) -> None:
        """Move the network, where it is one of torch."""
        self.net.to(device)

    @torch.no_grad()
    def __call__(self, crops: Tensor, size: tuple[int, int]) -> Tensor:
        """The map of the student's crops.

        Args:
            crops: ``(B, 3, H, W)`` uint8 RGB.
            size: h, w of the student's map.

        Returns:
            ``(B, C, h, w)`` float32, on the crops' device.
        """
        width, height = self.net.codec.input_size
        scale = min(width / crops.shape[-1], height / crops.shape[-2])
        inner = [round(side * scale) for side in crops.shape[-2:]]
        scaled = F.interpolate(crops.float(), inner, mode="bilinear", antialias=True)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        edges = (left, width - inner[1] - left, top, height - inner[0] - top)
        found = self.net.feature(F.pad(scaled, edges).round().byte())
        assert found is not None
        # where the crop lies in the map, as affine_grid counts: -1 to 1 from edge to edge
        wide, high = inner[1] / width, inner[0] / height
        middle = ((2 * left + inner[1]) / width - 1, (2 * top + inner[0]) / height - 1)
        place = found.new_tensor([[wide, 0, middle[0]], [0, high, middle[1]]])
        theta = place.expand(len(found), 2, 3)
        grid = F.affine_grid(theta, [*found.shape[:2], *size], align_corners=False)
        cut = F.grid_sample(found, grid, padding_mode="border", align_corners=False)
        return cut.to(crops.device)
