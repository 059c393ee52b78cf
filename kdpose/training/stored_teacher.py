"""How stored answers, joints with scores, weigh beside labels."""

import torch
from torch import Tensor

from kdpose.data.taught import FLOOR
from kdpose.types import PoseBatch

_CONFIDENT = 0.4  # score from which the teacher may overrule a label


def taught_weight(batch: PoseBatch) -> Tensor:
    """``(B, K)``: the teacher's scores, 0 where they are too low to teach."""
    assert batch.taught_score is not None
    return batch.taught_score * (batch.taught_score >= FLOOR)


def taught_spread(batch: PoseBatch, joints: Tensor) -> Tensor | None:
    """``(B, K, 2)``: the stored spreads of those joints that are the teacher's, 0 of labels."""
    if batch.taught_spread is None or batch.taught is None:
        return None
    its = (joints == batch.taught).all(-1, keepdim=True)
    return torch.where(its, batch.taught_spread, 0.0)


def best_known(batch: PoseBatch, trust: float | None) -> tuple[Tensor, Tensor]:
    """Each joint from its label where there is one, else from the teacher.

    Args:
        batch: with stored answers.
        trust: a label further than this share of the crop's height from a confident answer is
            taken for a mistake, and the answer taken instead; None believes every label.

    Returns:
        Joints ``(B, K, 2)``, crop pixels, and weights ``(B, K)``: 1 for a label, the score for an
        answer.
    """
    assert batch.taught is not None
    assert batch.taught_score is not None
    labelled = batch.visible > 0
    if trust is not None:
        apart = (batch.joints - batch.taught).norm(dim=-1)
        far = apart > trust * batch.image.shape[-2]
        labelled = labelled & ~(far & (batch.taught_score >= _CONFIDENT))
    joints = torch.where(labelled[..., None], batch.joints, batch.taught)
    return joints, torch.where(labelled, torch.ones_like(batch.visible), taught_weight(batch))
