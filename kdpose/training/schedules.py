"""Learning-rate schedules, stepped once per optimizer step."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def multi_step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    milestones: Sequence[int] = (170, 200),
    factor: float = 0.1,
) -> LambdaLR:
    """Multiply the rate by ``factor`` after each milestone epoch, as SimCC and HRNet train."""

    def rate(step: int) -> float:
        return factor ** bisect_right(milestones, step // steps_per_epoch)

    return LambdaLR(optimizer, rate)


def warmup_cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup: float = 0.03,
    floor: float = 0.01,
) -> LambdaLR:
    """Rise linearly over a share ``warmup`` of all steps, then fall on a cosine to ``floor``.

    The rate starts and ends at ``floor`` times the optimizer's.
    """
    rise = max(1, round(warmup * total_steps))

    def rate(step: int) -> float:
        if step < rise:
            return floor + (1 - floor) * step / rise
        done = min(1.0, (step - rise) / max(1, total_steps - rise))
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, rate)
