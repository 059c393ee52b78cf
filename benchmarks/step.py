"""``what=step``: training samples a second of both stages, from the plain step to the fastest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.limits import product
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.evaluation.timing import Case
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.training.fast_nets import has_bfloat16
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module
from kdpose.types import PoseBatch

PLAIN = "plain"
Module = DistillStage1Module | RefineStage2Module
Build = Callable[..., Module]


def cases(
    student: PoseNet,
    teacher: PoseNet,
    refiner: Callable[..., nn.Module],
    distill_losses: Mapping[str, LossTerm],
    refine_losses: Mapping[str, LossTerm],
    optimizer: Callable[..., Any],
    scheduler: Callable[..., Any],
    compile: Mapping[str, Any],
    batch_size: int,
    steps: int,
    scratch: Path,
    only: Sequence[str] | None = None,
) -> list[Case]:
    """Both stages' steps, each in the ways that it can be run here, and what limits them.

    Steps are Lightning's own, with losses, backward pass, optimizer and logging, on crops of noise
    that lie on the device already; their limit is a product of large matrices.

    Args:
        student: of stage 1, and what stage 2 refines; of random weights.
        teacher: of both, likewise.
        refiner: of stage 2.
        distill_losses: of stage 1.
        refine_losses: of stage 2.
        optimizer: of both; it must know ``fused``.
        scheduler: of both.
        compile: options of ``torch.compile``.
        batch_size: persons of a step.
        steps: of a run.
        scratch: not needed.
        only: the ways to take, as the rows name them after the stage; None: all.
    """
    distill = partial(DistillStage1Module, losses=distill_losses, scheduler=scheduler)
    refine = partial(RefineStage2Module, losses=refine_losses, scheduler=scheduler)
    refined = RefinedPoseNet(deepcopy(student), refiner)
    first = partial(_fresh, distill, student, teacher, optimizer)
    second = partial(_fresh, refine, refined, teacher, optimizer)
    how = (_noise(student, batch_size, _device()), steps, compile, only)
    return [*_stage("stage 1", first, *how), *_stage("stage 2", second, *how)]


def _device() -> str:
    """The GPU, where there is one; the plain step is then one in TensorFloat-32."""
    if not torch.cuda.is_available():
        return "cpu"
    torch.set_float32_matmul_precision("high")
    return "cuda"


def _fresh(
    make: Build,
    net: PoseNet | RefinedPoseNet,
    teacher: PoseNet,
    optimizer: Callable[..., Any],
    fused: bool = False,
    **options: Any,
) -> Module:
    """A module around copies of the nets."""
    build = partial(optimizer, fused=fused)
    return make(net=deepcopy(net), teacher=deepcopy(teacher), optimizer=build, **options)


def _stage(
    stage: str,
    build: Build,
    batch: PoseBatch,
    steps: int,
    compile: Mapping[str, Any],
    only: Sequence[str] | None,
) -> Iterator[Case]:
    """A stage's steps and their limits."""
    device = batch.image.device
    flops = _flops(build(), batch)
    for case in _steps(stage, build, batch, steps, compile, only):
        yield replace(case, facts={"GFLOP": flops / 1e9})
    yield from (_limit(stage, dtype, device, flops) for dtype in _precisions(device).values())


def pose_net(**parts: Any) -> PoseNet:
    """A network in eval mode, of random weights: time does not depend on them.

    Args:
        parts: configurations of ``backbone``, ``head``, ``codec`` and ``skeleton``.
    """
    body = build_backbone(OmegaConf.create(parts["backbone"]), weights=False)
    rest = (instantiate(parts[n], _convert_="all") for n in ("head", "codec", "skeleton"))
    return PoseNet(body, *rest).eval()


def _steps(
    stage: str,
    build: Callable[..., Module],
    batch: PoseBatch,
    steps: int,
    compile: Mapping[str, Any],
    only: Sequence[str] | None,
) -> Iterator[Case]:
    ways: dict[str, dict[str, Any]] = {PLAIN: {}}  # each does what the one before does, and more
    ways["folded teacher"] = {"fold_teacher": True}
    ways["fused optimizer"] = ways["folded teacher"] | {"fused": True}
    ways["compiled"] = ways["fused optimizer"] | {"compile": compile}
    for precision, dtype in _precisions(batch.image.device).items():
        for way, options in ways.items():
            name = way + ("" if dtype == torch.float32 else ", bfloat16")
            if only is not None and name not in (PLAIN, *only):
                continue
            yield Case(
                f"{stage}: {name}",
                _run(build(**options), batch, steps, precision),
                reference=None if name == PLAIN else f"{stage}: {PLAIN}",
                limit=f"{stage}: product in {_name(dtype)}",
            )


def _precisions(device: torch.device) -> dict[str, torch.dtype]:
    """Lightning's names of what the hardware computes in; bfloat16 where it is not emulated."""
    known = {"32-true": torch.float32}
    return known | {"bf16-mixed": torch.bfloat16} if has_bfloat16(device) else known


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _noise(net: PoseNet, count: int, device: str) -> PoseBatch:
    width, height = net.codec.input_size
    joints = len(net.skeleton)
    generator = torch.Generator().manual_seed(0)
    batch = PoseBatch(
        image=torch.randint(0, 256, (count, 3, height, width), generator=generator).byte(),
        joints=torch.rand(count, joints, 2, generator=generator) * min(width, height),
        visible=torch.full((count, joints), 2.0),
        center=torch.zeros(count, 2),
        size=torch.ones(count, 2),
        image_id=torch.arange(count),
        person=torch.arange(count),
        box_score=torch.ones(count),
    )
    moved: Any = (None if x is None else x.to(device) for x in batch)
    return PoseBatch(*moved)


class _Same(Dataset[PoseBatch]):
    """One batch, again and again."""

    def __init__(self, batch: PoseBatch, times: int) -> None:
        self.batch, self.times = batch, times

    def __len__(self) -> int:
        return self.times

    def __getitem__(self, _: int) -> PoseBatch:
        return self.batch


def _whole(batch: Any) -> Any:
    return batch


def fit(
    module: L.LightningModule,
    accelerator: str,
    precision: Any,
    steps: int | None = None,
    **data: Any,
) -> None:
    """An epoch of Lightning's loop and nothing else: no validation, log, checkpoint or bar.

    Args:
        module: to train.
        accelerator: Lightning's name of the device.
        precision: Lightning's.
        steps: of the epoch; None: all.
        **data: what ``Trainer.fit`` takes.
    """
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, **data)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _run(
    module: Module, batch: PoseBatch, steps: int, precision: str = "32-true"
) -> Callable[[], float]:
    def run() -> float:
        loader = DataLoader(_Same(batch, steps), batch_size=None, collate_fn=_whole)
        fit(module, batch.image.device.type, precision, train_dataloaders=loader)
        return steps * len(batch.image)

    return run


def _flops(module: Module, batch: PoseBatch) -> float:
    """Operations that a sample's step takes: convolutions and matrix products, forth and back."""
    with FlopCounterMode(display=False) as counter:
        _run(module, batch, 1)()
    return counter.get_total_flops() / len(batch.image)


def _limit(stage: str, dtype: torch.dtype, device: torch.device, flops: float) -> Case:
    return Case(f"{stage}: product in {_name(dtype)}", product(dtype, device, flops))
