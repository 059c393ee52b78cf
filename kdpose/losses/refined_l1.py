"""L_i^GCN: distance of a refined pose from the teacher's (Eq. 6); Eq. 7 weights three."""

from collections.abc import Sequence

import torch
from torch import Tensor


def refined_l1(
    refined: Sequence[Tensor],
    target_pose: Tensor,
    joint_mask: Tensor,
    input_size: tuple[int, int],
    block: int,
    count: Tensor | None = None,
) -> Tensor:
    """Mean absolute error over the coordinates that count.

    Units are those of the refiner's output, the input spanning [-1, 1]: in pixels the gradient
    would always be clipped at the norm of 1 that stage 2 trains with.

    Args:
        refined: poses ``(B, K, 2)``, crop pixels, from coarse to fine.
        target_pose: ``(B, K, 2)``, crop pixels: the teacher's pose, or the label's.
        joint_mask: M, ``(B, K)``, 1 for joints with a label.
        input_size: ``(W, H)``, pixels.
        block: which of ``refined``, from 0.
        count: scalar, how many joints to divide by instead of those of ``joint_mask``: where
            devices share a batch, their mean, so that the mean of their losses is the batch's.

    Returns:
        Scalar; 0 where no joint counts.

    Raises:
        ValueError: there is no such block, or shapes do not fit.
    """
    pose = _block(refined, block)
    _check_shapes(pose, target_pose, joint_mask)
    precise = torch.promote_types(pose.dtype, torch.float32)
    mask = joint_mask.to(precise)
    error = (pose.to(precise) - target_pose.to(precise)).abs()
    width, height = input_size
    scaled = (error[..., 0] / width + error[..., 1] / height) * 2
    counted = mask.sum() if count is None else count
    return (scaled * mask).sum() / (2 * counted).clamp(min=1)


def _block(refined: Sequence[Tensor], block: int) -> Tensor:
    if not 0 <= block < len(refined):
        raise ValueError(f"block must be 0 to {len(refined) - 1}, got {block}")
    return refined[block]


def _check_shapes(pose: Tensor, target_pose: Tensor, joint_mask: Tensor) -> None:
    if pose.shape != target_pose.shape or pose.shape[:-1] != joint_mask.shape:
        raise ValueError(
            "poses must share a shape (B, K, 2) and joint_mask be (B, K), got "
            f"{tuple(pose.shape)}, {tuple(target_pose.shape)}, {tuple(joint_mask.shape)}"
        )
