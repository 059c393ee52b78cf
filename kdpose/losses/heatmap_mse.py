"""The loss of heatmap networks (Sun et al., CVPR 2019)."""

from torch import Tensor

from kdpose.types import HeatmapTarget


def heatmap_mse(logits: Tensor, target: HeatmapTarget) -> Tensor:
    """Half the mean squared error over batch, joints and cells, weighted by joint.

    Args:
        logits: maps ``(B, K, h, w)``.
        target: maps and weights.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: the shapes differ.
    """
    if logits.shape != target.maps.shape:
        raise ValueError(
            "maps and target must share a shape, "
            f"got {tuple(logits.shape)} and {tuple(target.maps.shape)}"
        )
    error = (logits.float() - target.maps) * target.weight[..., None, None]
    return 0.5 * error.square().mean()
