"""L_KL: the student's own loss (Eq. 5), SimCC's divergence between target and predicted bins."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdpose.types import SimCCLogits, SimCCTarget

_REDUCTIONS = ("nmt_sum", "mean", "mmpose")


def simcc_kl(
    logits: SimCCLogits,
    target: SimCCTarget,
    reduction: Literal["nmt_sum", "mean", "mmpose"] = "nmt_sum",
) -> Tensor:
    """KL(target || softmax(logits)), the x and y axes added, each joint times its weight.

    Args:
        logits: scores of the bins.
        target: distributions and joint weights; a bin of target 0 adds 0.
        reduction: ``nmt_sum``: sum over bins and joints, mean over the batch (the reference's
            criterion for smoothed labels, and the scale that alpha and beta of Eq. 5 suppose);
            ``mean``: mean over bins, joints and batch (its criterion for Gaussian labels);
            ``mmpose``: mean over bins and joints, *sum* over the batch (that library's).

    Returns:
        Scalar, nats, float32 or better.

    Raises:
        ValueError: there are no bins, shapes differ or the reduction is unknown.
    """
    if not isinstance(logits, SimCCLogits):
        raise ValueError(
            "simcc_kl compares SimCC's bins, and this network gives other scores: take the loss of "
            "its head, for example 'loss=[heatmap_mse]', or codec=simcc head=simcc"
        )
    if reduction not in _REDUCTIONS:
        raise ValueError(f"reduction must be one of {_REDUCTIONS}, got '{reduction}'")
    divergence = _divergence(logits.x, target.x, mean=reduction != "nmt_sum")
    divergence = divergence + _divergence(logits.y, target.y, mean=reduction != "nmt_sum")
    if divergence.shape != target.weight.shape:
        raise ValueError(
            f"target weight must be {tuple(divergence.shape)}, got {tuple(target.weight.shape)}"
        )
    weighted = divergence * target.weight
    if reduction == "nmt_sum":
        return weighted.sum(-1).mean()
    return weighted.mean() if reduction == "mean" else weighted.mean(-1).sum()


def _divergence(logits: Tensor, target: Tensor, mean: bool) -> Tensor:
    """Divergence ``(B, K)`` of one axis, summed or averaged over its bins."""
    if logits.shape != target.shape:
        raise ValueError(
            "logits and target must share a shape, "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}"
        )
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    terms = F.kl_div(scores.log_softmax(-1), target, reduction="none")
    return terms.mean(-1) if mean else terms.sum(-1)
