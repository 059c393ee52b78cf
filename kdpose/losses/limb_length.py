"""L_cst: the structural constraint on limb lengths (Eq. 3)."""

import torch
from torch import Tensor


def limb_length_l1(
    student_pose: Tensor,
    teacher_pose: Tensor,
    joint_mask: Tensor,
    limbs: Tensor,
    limb_weight: Tensor,
) -> Tensor:
    """Weighted differences of limb lengths, summed over limbs, averaged over the batch.

    Args:
        student_pose: ``(B, K, 2)`` crop pixels.
        teacher_pose: ``(B, K, 2)`` crop pixels.
        joint_mask: ``(B, K)``, 1 for joints that count; a limb needs both ends.
        limbs: joint index pairs ``(E, 2)``, int64.
        limb_weight: omega ``(E,)``.

    Returns:
        Scalar, pixels.

    Raises:
        ValueError: shapes do not fit.
    """
    if student_pose.shape != teacher_pose.shape or student_pose.shape[:-1] != joint_mask.shape:
        raise ValueError(
            "poses must share a shape (B, K, 2) and joint_mask be (B, K), got "
            f"{tuple(student_pose.shape)}, {tuple(teacher_pose.shape)}, {tuple(joint_mask.shape)}"
        )
    if limbs.shape != (*limb_weight.shape, 2):
        raise ValueError(
            "limbs must be (E, 2) and limb_weight (E,), "
            f"got {tuple(limbs.shape)} and {tuple(limb_weight.shape)}"
        )
    counts = joint_mask[:, limbs[:, 0]] * joint_mask[:, limbs[:, 1]]
    difference = (_lengths(student_pose, limbs) - _lengths(teacher_pose, limbs)).abs()
    return (difference * counts * limb_weight).sum(-1).mean()


def _lengths(pose: Tensor, limbs: Tensor) -> Tensor:
    """Limb lengths ``(B, E)``.

    At length 0 (an untrained student has all joints at the centre) vector_norm has gradient 0;
    the square root of a sum of squares has none.
    """
    precise = pose.to(torch.promote_types(pose.dtype, torch.float32))
    return torch.linalg.vector_norm(precise[:, limbs[:, 0]] - precise[:, limbs[:, 1]], dim=-1)
