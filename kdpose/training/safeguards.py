"""Callbacks that are part of every training, whatever others it is given."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.training.fast_nets import compile_parts, has_bfloat16


class RealBfloat16(L.Callback):
    """Refuses bfloat16 where the hardware lacks it."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the precision.

        Raises:
            ValueError: bfloat16 is asked for and would be emulated.
        """
        precision = str(trainer.precision)
        if precision.startswith("bf16") and not has_bfloat16(pl_module.device):
            raise ValueError(
                f"trainer.precision={precision} would be emulated on this "
                f"{pl_module.device.type}, ten times as slow as float32: take "
                "trainer.precision=32-true"
            )


class CompiledNets(L.Callback):
    """Compiles the networks of a training.

    Args:
        nets: the student and, where there is one, the teacher.
        options: of ``torch.compile``, see :func:`compile_parts`.
    """

    def __init__(
        self, nets: Sequence[PoseNet | RefinedPoseNet], options: Mapping[str, Any]
    ) -> None:
        self.nets, self.options = nets, options

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compile them; the first call does the work."""
        for net in self.nets:
            compile_parts(net, self.options)

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Mark the start of a step for CUDA graphs.

        Otherwise each call of a compiled network counts as a step, and the teacher overwrites the
        student's outputs.
        """
        torch.compiler.cudagraph_mark_step_begin()


class UsedParameters(L.Callback):
    """Reports parameters without gradients, on which DDP would hang.

    Args:
        losses: names of the terms, for the error.
    """

    def __init__(self, losses: Collection[str]) -> None:
        self.losses = sorted(losses)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the gradients of the first step.

        Raises:
            ValueError: a parameter has none.
        """
        parallel = trainer.strategy.model
        if pl_module.global_step > 0 or not isinstance(parallel, DistributedDataParallel):
            return
        trained = [(name, p) for name, p in pl_module.named_parameters() if p.requires_grad]
        unused = [name for name, p in trained if p.grad is None]
        if unused and not parallel.find_unused_parameters:
            raise ValueError(
                f"{len(unused)} of {len(trained)} parameters, {unused[:3]}, have no part in the "
                f"losses {self.losses}, and several devices wait for the gradients of all: "
                "take trainer.strategy=ddp_find_unused_parameters_true"
            )


@dataclass(frozen=True)
class _Step:
    """What is on its way from the device: which terms are finite, and when that is known."""

    finite: Tensor
    arrived: Any
    terms: tuple[str, ...]
    where: str
    images: Tensor


class FiniteLosses(L.Callback):
    """Notices a loss that is not finite; the training step hands its terms to :meth:`add`.

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

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the epoch's last losses.

        Raises:
            ValueError: one is not finite.
        """
        self.look(wait=True)

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
