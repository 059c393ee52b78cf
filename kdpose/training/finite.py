"""Notice a loss that is not finite without waiting for the device."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Step:
    """What is on its way from the device: which terms are finite, and when that is known."""

    finite: Tensor
    arrived: Any
    terms: tuple[str, ...]
    where: str
    images: Tensor


class FiniteCheck:
    """Watches the terms of each step.

    On a GPU the answer is copied to the host in the background and looked at as soon as it is
    there, at the next step or, where the host runs ahead, a few steps later; reading it at once
    would make the host wait for the device in every step. On the CPU it is looked at at once.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Step] = deque()

    def add(self, parts: Mapping[str, Tensor], where: str, images: Tensor) -> None:
        """Watch the terms of a step, and look at those that have arrived.

        Args:
            parts: scalars by name.
            where: names the step in the error.
            images: ids of its images.

        Raises:
            ValueError: a term of this or an earlier step is not finite.
        """
        finite, arrived = torch.stack([part.detach().isfinite() for part in parts.values()]), None
        if finite.is_cuda:
            host = torch.empty(finite.shape, dtype=finite.dtype, pin_memory=True)
            finite = host.copy_(finite, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting.append(_Step(finite, arrived, tuple(parts), where, images[:5]))
        self.look()

    def look(self, wait: bool = False) -> None:
        """Look at the steps that have arrived, or, where ``wait``, at all.

        Raises:
            ValueError: naming the terms, the step and the images.
        """
        while self._waiting and (wait or self._is_there(self._waiting[0])):
            step = self._waiting.popleft()
            if step.arrived is not None:
                step.arrived.synchronize()
            bad = [n for n, ok in zip(step.terms, step.finite.tolist(), strict=True) if not ok]
            if bad:
                raise ValueError(
                    f"loss {bad} is not finite in {step.where}, images {step.images.tolist()}: "
                    "lower the learning rate (optimizer.lr) or train in trainer.precision=32-true"
                )

    @staticmethod
    def _is_there(step: _Step) -> bool:
        return step.arrived is None or bool(step.arrived.query())
