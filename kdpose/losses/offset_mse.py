"""The loss of UDP's combined targets (Huang et al., CVPR 2020)."""

from torch import Tensor

from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.types import HeatmapTarget


def offset_mse(logits: Tensor, target: HeatmapTarget) -> Tensor:
    """Half the mean squared errors of H, X and Y, added; offsets count where the target's H is 1.

    Each mean is over batch, joints and all cells, weighted by joint, as in the published code.

    Args:
        logits: maps ``(B, K, 3, h, w)``.
        target: of :class:`kdpose.codecs.udp_offsets.UDPOffsets`.

    Returns:
        Scalar, float32 or better.

    Raises:
        ValueError: there are no such maps, or the shapes differ.
    """
    if not isinstance(logits, Tensor) or {logits.ndim, target.maps.ndim} != {5}:
        raise ValueError(
            "offset_mse compares three maps per joint: take codec=udp_offsets head=offset_maps"
        )
    near, x, y = logits.unbind(2)
    hit, dx, dy = target.maps.unbind(2)
    loss = heatmap_mse(near, HeatmapTarget(hit, target.weight))
    for offset, wanted in ((x, dx), (y, dy)):
        loss = loss + heatmap_mse(offset * hit, HeatmapTarget(wanted, target.weight))
    return loss
