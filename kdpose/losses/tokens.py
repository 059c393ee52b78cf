"""Distances between tokens: a teacher's to a student's, a later pass' to an earlier one's."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.types import HeatmapTarget


def token_mse(tokens: Tensor, teacher_tokens: Tensor) -> Tensor:
    """Mean squared distance of tokens to a teacher's (DistilPose, Ye et al., CVPR 2023).

    Args:
        tokens: ``(B, N, dim)``.
        teacher_tokens: ``(B, N, dim)``.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes differ.
    """
    if tokens.shape != teacher_tokens.shape:
        raise ValueError(
            "tokens of student and teacher must share a shape, "
            f"got {tuple(tokens.shape)} and {tuple(teacher_tokens.shape)}"
        )
    return (tokens.float() - teacher_tokens.float()).square().mean()


def pass_token_mse(pass_tokens: Sequence[Tensor]) -> Tensor:
    """Distance of each pass' tokens to the next pass', which are the target (SDPose, CVPR 2024).

    Args:
        pass_tokens: ``(B, N, dim)`` of each pass.

    Returns:
        Scalar: :func:`token_mse` summed over the passes but the last.

    Raises:
        ValueError: there is one pass alone.
    """
    if len(pass_tokens) < 2:
        raise ValueError("one pass has no later one to learn from: set head.cycles to 2 or more")
    pairs = pairwise(pass_tokens)
    first, *others = (token_mse(earlier, later.detach()) for earlier, later in pairs)
    return sum(others, first)


def pass_mse(pass_logits: Sequence[Tensor], target: HeatmapTarget) -> Tensor:
    """The heatmap loss of every pass, or of every branch, summed.

    Args:
        pass_logits: heatmaps ``(B, K, h, w)`` of each.
        target: of all.

    Returns:
        Scalar.
    """
    first, *others = (heatmap_mse(logits, target) for logits in pass_logits)
    return sum(others, first)
