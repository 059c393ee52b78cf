"""DistilPose's losses: what a heatmap teacher says of coordinates (Ye et al., CVPR 2023)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.losses.rle import check_shapes
from kdpose.types import Coordinates, CoordinateTarget, HeatmapTarget


def coordinate_smooth_l1(logits: Coordinates, target: CoordinateTarget) -> Tensor:
    """Huber's distance (threshold 1) of coordinates to the labels, weighted by joint.

    Args:
        logits: the network's coordinates.
        target: coordinates and joint weights.

    Returns:
        Scalar, mean over batch, joints, x and y.

    Raises:
        ValueError: the shapes differ.
    """
    check_shapes(logits, target)
    weight = target.weight[..., None]
    return F.smooth_l1_loss(logits.joints * weight, target.joints * weight)


def simulated_heatmap_mse(logits: Coordinates, teacher_target: HeatmapTarget) -> Tensor:
    """Distance of the Gaussians that coordinates and deviations describe to the teacher's maps.

    Args:
        logits: the student's.
        teacher_target: the teacher's maps ``(B, K, h, w)``, whose cell i is share i / w of the
            crop, and joint weights.

    Returns:
        Scalar, see :func:`heatmap_mse`.
    """
    height, width = teacher_target.maps.shape[-2:]

    def bump(axis: int, cells: int) -> Tensor:
        cell = torch.arange(cells, device=logits.joints.device, dtype=logits.joints.dtype)
        distance = cell - logits.joints[..., axis, None] * cells
        deviation = logits.deviation[..., axis, None] * cells
        return (-0.5 * distance.square() / (deviation.square() + 1e-9)).exp()

    maps = bump(1, height)[..., :, None] * bump(0, width)[..., None, :]
    return heatmap_mse(maps, teacher_target)


def score_l1(logits: Coordinates, teacher_target: HeatmapTarget) -> Tensor:
    """Distance of the scores to the teacher's map at the places that the student regressed.

    Args:
        logits: the student's; outside the crop the target is 0.
        teacher_target: the teacher's maps and joint weights.

    Returns:
        Scalar, mean over batch and joints.
    """
    height, width = teacher_target.maps.shape[-2:]
    with torch.no_grad():
        sides = logits.joints.new_tensor([width, height])
        x, y = (logits.joints * sides).round().long().unbind(-1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        value = teacher_target.maps.flatten(2).gather(-1, index[..., None])[..., 0] * inside
    return ((logits.score - value).abs() * teacher_target.weight).mean()
