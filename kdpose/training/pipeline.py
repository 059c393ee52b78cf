"""Teacher, student and refiner in one command, each stage an experiment of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torchvision.transforms.functional import pad

from kdpose.checkpoints.guest_net import GuestNet, LoadedGuest
from kdpose.checkpoints.load import Loaded
from kdpose.cli import console
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, spread
from kdpose.data.one_category import take_category
from kdpose.data.transforms import PADDING
from kdpose.display.drawing import labelled, pose_grid, save_jpeg
from kdpose.display.tables import (
    METRICS,
    as_markdown,
    caption,
    metrics_table,
    table_cells,
    table_header,
    write_csv,
)
from kdpose.runtime.moved import renamed
from kdpose.runtime.ranks import rank
from kdpose.runtime.whole import write_json
from kdpose.training.given_teacher import START, Rows, guest, is_foreign, open_models, score_given
from kdpose.training.record import objective
from kdpose.training.stage import train

_NOT_PASSED_ON = (
    "experiment=", "pipeline", "name=", "scheme=", "method=", "run_dir=", "student.",
    f"teacher.{START}=",
)  # fmt: skip


def run_pipeline(cfg: DictConfig, overrides: list[str]) -> float | None:
    """Run the stages in order, reusing those that are finished, and write their common table.

    Args:
        cfg: ``pipeline.stages`` maps a row's label to its ``experiment`` and ``overrides``, and,
            where it has them, its ``name``, ``seed``, ``backbone`` and ``losses``, and the stages
            that are its ``teacher`` and the ``student`` that it refines.
        overrides: the command line's, passed on to every stage.

    Returns:
        AP of the last stage.

    Raises:
        ValueError: the pipeline has schemes, and ``scheme`` is none of them.
    """
    common = [o for o in overrides if not o.lstrip("+").startswith(_NOT_PASSED_ON)]
    if not any(o.startswith("dataset=") for o in common):
        common.insert(0, f"dataset={HydraConfig.get().runtime.choices['dataset']}")
    teacher_given = any(o.startswith("teacher.ckpt=") for o in common)
    take_category(cfg)  # for what is scored here; each stage takes its own
    rows: dict[str, dict[str, Any]] = {}
    ckpts: dict[str, str] = {}
    labels, run_dir = _labels(cfg), Path(cfg.run_dir)
    foreign = score_given(cfg) if is_foreign(cfg) and rank() == 0 else None
    rows |= {} if foreign is None else {"teacher": foreign}
    for number, label in enumerate(labels, start=1):
        console.print(f"stage {number} of {len(labels)}: {label}", highlight=False)
        stage = cfg.pipeline.stages[label]
        if label == "teacher" and teacher_given:
            rows[label] = (score_given(cfg) or {}) if rank() == 0 else {}
            ckpts[label] = str(cfg.teacher.ckpt)
            continue
        composed = renamed(compose("train", overrides=_stage_overrides(cfg, stage, common, ckpts)))
        rows[label] = train(composed)
        ckpts[label] = str(Path(composed.run_dir) / "best.ckpt")
    if rank() == 0:
        _write_table(run_dir, cfg.name, rows)
        _write_picture(run_dir / "poses.jpg", open_models(rows, guest(cfg)), rows)
    console.print(f"table and pictures in {run_dir.absolute()}")
    return objective(next(reversed(rows.values())))


def _labels(cfg: DictConfig) -> list[str]:
    """The stages to run: those of the scheme, or all; the baseline only where it is asked for."""
    pipeline = cfg.pipeline
    if "schemes" not in pipeline:
        left_out = {"baseline": not pipeline.baseline, "teacher": is_foreign(cfg)}
        return [str(label) for label in pipeline.stages if not left_out.get(label)]
    if cfg.scheme not in pipeline.schemes:
        raise ValueError(f"scheme must be one of {list(pipeline.schemes)}, got {cfg.scheme}")
    return [str(label) for label in pipeline.schemes[cfg.scheme]]


def _stage_overrides(
    cfg: DictConfig, stage: DictConfig, common: list[str], ckpts: Mapping[str, str]
) -> list[str]:
    """What makes a stage: its experiment, what all share, the user's, and what it is, in order."""
    teacher, student = stage.get("teacher"), stage.get("student")
    if teacher is None:
        common = [o for o in common if not o.startswith(("teacher.", "teacher="))]
    identity = [f"{key}={stage[key]}" for key in ("name", "seed", "backbone") if key in stage]
    foreign = teacher is not None and is_foreign(cfg)
    by_poses = foreign or (teacher is not None and bool(cfg.teacher.get("cache")))
    losses = stage.get("losses") or (stage.get("stored_losses") if by_poses else None)
    if losses:
        identity.append(f"loss=[{','.join(losses)}]")
    if student is None:  # stage 2's network has its weights
        role = cfg.get("teacher" if stage.experiment == "teacher" else "student")
        start = role.get(START) if OmegaConf.is_dict(role) else None
        identity += [f"backbone.{START}='{start}'"] if start else []
    if teacher is not None:
        identity += _asked(cfg) if foreign else [f"teacher.ckpt='{ckpts[teacher]}'"]
    if student is not None:
        identity.append(f"stage1_ckpt='{ckpts[student]}'")
    if student is not None and teacher is None:  # a refiner's experiment has a teacher by itself
        identity.append("~teacher")
    begin = [f"+experiment={stage.experiment}", "resume=auto"]
    identity.append(f"group='{cfg.group or cfg.name}'")
    return [*begin, *cfg.pipeline.overrides, *stage.overrides, *common, *identity]


def _asked(cfg: DictConfig) -> list[str]:
    """The overrides that give a stage the pipeline's own teacher, whose stored answers teach."""
    keys = OmegaConf.to_container(cfg.teacher, resolve=True)
    assert isinstance(keys, dict)
    values = {str(k): v for k, v in keys.items() if k not in ("_target_", "skeleton", START)}
    kind = HydraConfig.get().runtime.choices["teacher"]
    return [f"teacher={kind}", *(f"teacher.{k}={json.dumps(v)}" for k, v in values.items())]


def _write_table(run_dir: Path, name: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the rows and write them as Markdown, CSV and, with all that is known, JSON."""
    run_dir.mkdir(parents=True, exist_ok=True)
    shown = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    write_json(run_dir / "table.json", rows, indent=2, default=list)
    title = f"{name}: {caption(next(reversed(rows.values())))}"
    console.print(metrics_table(title, rows))
    lines = [["model", *table_header(shown)]]
    lines += [[label, *table_cells(row, shown)] for label, row in rows.items()]
    (run_dir / "table.md").write_text(f"{title}\n\n{as_markdown(lines)}\n")
    keys = (*shown, "params", "gmacs", "ckpt")
    write_csv(
        run_dir / "table.csv",
        [{"model": label, **{k: row.get(k) for k in keys}} for label, row in rows.items()],
    )


@torch.inference_mode()
def _write_picture(
    path: Path, models: Mapping[str, Loaded | LoadedGuest], rows: Rows, persons: int = 8
) -> None:
    """The same persons under each model, one row a model, so that columns compare."""
    last = models[list(models)[-1]]
    images, skeleton = last.description["dataset"]["images"], last.net.skeleton
    everyone = load_persons(rows[list(rows)[-1]]["annotations"], skeleton)
    grids = []
    for label, model in models.items():
        net = model.net
        padding = net.padding if isinstance(net, GuestNet) else PADDING
        dataset = PoseDataset(everyone, images, skeleton, net.codec.input_size, padding=padding)
        crops = spread(dataset, persons).image
        grid = pose_grid(crops, [net.pose(crops).joints], net.skeleton, columns=persons)
        grids.append(labelled(grid, label))
    width = max(grid.shape[-1] for grid in grids)
    even = [pad(grid, [0, 0, width - grid.shape[-1], 0], fill=255) for grid in grids]
    save_jpeg(torch.cat(even, dim=1), path, quality=90)
