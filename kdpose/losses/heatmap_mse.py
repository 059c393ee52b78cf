"""The loss of heatmap networks (Sun et al., CVPR 2019)."""

import torch
from torch import Tensor

from kdpose.types import HeatmapTarget


def heatmap_mse(logits: Tensor, target: HeatmapTarget) -> Tensor:
    """Half the mean squared error over batch, joints and cells, weighted by joint.

    Args:
        logits: maps ``(B, K, h, w)``.
        target: maps and weights.

    Returns:
        Scalar, float32 or better.

    Raises:
        ValueError: there are no heatmaps, or the shapes differ.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        raise ValueError(
            "heatmap_mse compares heatmaps, and this network gives other scores: take the loss of "
            "its head, for example 'loss=[simcc_kl]', or codec=heatmap head=heatmap"
        )
    if logits.shape != target.maps.shape:
        raise ValueError(
            "maps and target must share a shape, "
            f"got {tuple(logits.shape)} and {tuple(target.maps.shape)}"
        )
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    error = (precise - target.maps) * target.weight[..., None, None]
    return 0.5 * error.square().mean()
