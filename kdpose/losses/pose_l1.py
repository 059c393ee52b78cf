"""First term of L_pos: distance of the student's joints from the teacher's (Eq. 2)."""

from typing import Literal

import torch
from torch import Tensor


def pose_l1(
    student_pose: Tensor,
    teacher_pose: Tensor,
    joint_mask: Tensor,
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    """City-block distance between two poses.

    Args:
        student_pose: ``(B, K, 2)`` crop pixels.
        teacher_pose: ``(B, K, 2)`` crop pixels.
        joint_mask: ``(B, K)``, 1 for joints that count.
        reduction: ``sum``: over joints and x, y, then mean over the batch, as Eq. 2;
            ``mean``: over all coordinates that count.

    Returns:
        Scalar, pixels; 0 if no joint counts.

    Raises:
        ValueError: shapes do not fit or the reduction is unknown.
    """
    if student_pose.shape != teacher_pose.shape or student_pose.shape[:-1] != joint_mask.shape:
        raise ValueError(
            "poses must share a shape (B, K, 2) and joint_mask be (B, K), got "
            f"{tuple(student_pose.shape)}, {tuple(teacher_pose.shape)}, {tuple(joint_mask.shape)}"
        )
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got '{reduction}'")
    precise = torch.promote_types(student_pose.dtype, torch.float32)
    mask = joint_mask.to(precise)
    distance = (student_pose.to(precise) - teacher_pose.to(precise)).abs().sum(-1) * mask
    if reduction == "sum":
        return distance.sum(-1).mean()
    return distance.sum() / (2 * mask.sum()).clamp(min=1)
