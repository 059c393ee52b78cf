"""OKDHP's distillation: every branch learns the ensemble's distribution over pixels (ICCV 2021)."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from kdpose.types import HeatmapTarget


def pixel_kl(
    branch_logits: Sequence[Tensor],
    ensemble_logits: Tensor,
    target: HeatmapTarget,
    epoch: int,
    ramp_epochs: int = 60,
) -> Tensor:
    """KL(softmax ensemble || softmax branch) over each joint's cells, summed over the branches.

    As in the reference: both maps times the joint's weight before the softmax, so that a joint of
    weight 0 adds 0; summed over joints and cells, divided by batch and cells; times the ramp
    ``exp(-5 (1 - epoch / ramp_epochs)^2)``, which holds at 1 from ``ramp_epochs`` on.

    Args:
        branch_logits: heatmaps ``(B, K, h, w)`` of each branch.
        ensemble_logits: the ensemble's, without a gradient from here.
        target: of which the weights are read.
        epoch: counted from 0.
        ramp_epochs: length of the ramp; 0: none.

    Returns:
        Scalar, nats.
    """
    weight = target.weight[..., None]

    def log_shares(maps: Tensor) -> Tensor:
        return (maps.float().flatten(2) * weight).log_softmax(-1)

    wanted = log_shares(ensemble_logits.detach())
    batch, cells = wanted.shape[0], wanted.shape[-1]
    first, *others = (
        F.kl_div(log_shares(maps), wanted, reduction="sum", log_target=True)
        for maps in branch_logits
    )
    left = max(0.0, 1 - epoch / ramp_epochs) if ramp_epochs else 0.0
    return sum(others, first) / (batch * cells) * math.exp(-5 * left**2)
