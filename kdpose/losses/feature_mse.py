"""L_fea: feature distillation (Eq. 1)."""

from typing import Literal

import torch
from torch import Tensor


def feature_mse(
    student_feature: Tensor,
    teacher_feature: Tensor,
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    """Squared distance of the aligned student feature to the teacher's, averaged over the batch.

    Eq. 1 prints a mean over C, H and W, but the published alpha = 5e-5 has the scale of the sum
    (as in DWPose, the source of Eq. 4 and 5); with the mean the term nearly vanishes.

    Args:
        student_feature: ``(B, C, H, W)``, after the 1x1 convolution to the teacher's channels.
        teacher_feature: ``(B, C, H, W)``.
        reduction: over C, H and W.

    Returns:
        Scalar, float32 or better.

    Raises:
        ValueError: shapes differ or the reduction is unknown.
    """
    if student_feature.shape != teacher_feature.shape:
        raise ValueError(
            "student and teacher features must share a shape, "
            f"got {tuple(student_feature.shape)} and {tuple(teacher_feature.shape)}"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got '{reduction}'")
    precise = torch.promote_types(student_feature.dtype, torch.float32)
    square = (student_feature.to(precise) - teacher_feature.to(precise)).square()
    return square.mean() if reduction == "mean" else square.flatten(1).sum(-1).mean()
