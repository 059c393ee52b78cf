"""Teacher, student and refiner in one command, each stage an experiment of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torchvision.io import write_jpeg
from torchvision.transforms.functional import pad

from kdpose.checkpoints.load import load_net
from kdpose.cli import console
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, spread
from kdpose.display.drawing import labelled, pose_grid
from kdpose.display.tables import (
    METRICS,
    as_markdown,
    caption,
    metrics_table,
    table_cells,
    table_header,
    write_csv,
)
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.runtime.moved import renamed
from kdpose.runtime.ranks import rank
from kdpose.training.stage import train

_NOT_PASSED_ON = ("experiment=", "pipeline", "name=", "scheme=", "run_dir=", "student.")
_START = "pretrained_file"  # of teacher and student: what their backbones start from


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
    common = [o for o in common if not o.startswith(f"teacher.{_START}=")]
    teacher_given = any(o.startswith("teacher.ckpt=") for o in common)
    run_dir = Path(cfg.run_dir)
    rows: dict[str, dict[str, Any]] = {}
    ckpts: dict[str, str] = {}
    labels = _labels(cfg)
    for number, label in enumerate(labels, start=1):
        console.print(f"stage {number} of {len(labels)}: {label}", highlight=False)
        stage = cfg.pipeline.stages[label]
        if label == "teacher" and teacher_given:
            rows[label] = _score_given(cfg) if rank() == 0 else {}
            ckpts[label] = str(cfg.teacher.ckpt)
            continue
        composed = renamed(compose("train", overrides=_stage_overrides(cfg, stage, common, ckpts)))
        rows[label] = train(composed)
        ckpts[label] = str(Path(composed.run_dir) / "best.ckpt")
    if rank() == 0:
        _write_table(run_dir, cfg.name, rows)
        _write_picture(run_dir / "poses.jpg", rows)
    console.print(f"table and pictures in {run_dir.absolute()}")
    return next(reversed(rows.values()))["AP"]


def _labels(cfg: DictConfig) -> list[str]:
    """The stages to run: those of the scheme, or all; the baseline only where it is asked for."""
    pipeline = cfg.pipeline
    if "schemes" not in pipeline:
        left_out = {"baseline": not pipeline.baseline, "teacher": _is_stored(cfg)}
        return [str(label) for label in pipeline.stages if not left_out.get(label)]
    if cfg.scheme not in pipeline.schemes:
        raise ValueError(f"scheme must be one of {list(pipeline.schemes)}, got {cfg.scheme}")
    return [str(label) for label in pipeline.schemes[cfg.scheme]]


def _is_stored(cfg: DictConfig) -> bool:
    """Whether the teacher is no checkpoint: its stored answers teach, and none is trained."""
    return cfg.teacher is not None and "ckpt" not in cfg.teacher


def _stage_overrides(
    cfg: DictConfig, stage: DictConfig, common: list[str], ckpts: Mapping[str, str]
) -> list[str]:
    """What makes a stage: its experiment, what all share, the user's, and what it is, in order."""
    teacher, student = stage.get("teacher"), stage.get("student")
    if teacher is None:
        common = [o for o in common if not o.startswith(("teacher.", "teacher="))]
    identity = [f"{key}={stage[key]}" for key in ("name", "seed", "backbone") if key in stage]
    stored = teacher is not None and _is_stored(cfg)
    losses = stage.get("losses") or (stage.get("stored_losses") if stored else None)
    if losses:
        identity.append(f"loss=[{','.join(losses)}]")
    if student is None:  # stage 2's network has its weights
        role = cfg.get("teacher" if stage.experiment == "teacher" else "student")
        start = role.get(_START) if OmegaConf.is_dict(role) else None
        identity += [f"backbone.{_START}='{start}'"] if start else []
    if teacher is not None:
        identity += _asked(cfg) if stored else [f"teacher.ckpt='{ckpts[teacher]}'"]
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
    values = {str(k): v for k, v in keys.items() if k not in ("_target_", "skeleton", _START)}
    kind = HydraConfig.get().runtime.choices["teacher"]
    return [f"teacher={kind}", *(f"teacher.{k}={json.dumps(v)}" for k, v in values.items())]


def _score_given(cfg: DictConfig) -> dict[str, Any]:
    """Score the teacher that the user brought on this pipeline's validation split."""
    ckpt = str(cfg.teacher.ckpt)
    options = {key: cfg.teacher[key] for key in ("skeleton", "input_size", "label")}
    loaded = load_net(ckpt, "teacher.ckpt", **options)
    given = {"ckpt": ckpt, "options": options}
    joints = instantiate(cfg.dataset.skeleton, _convert_="all").joints
    if loaded.net.skeleton.joints != joints:  # its AP on the shared joints: the run's teacher.json
        return {**complexity(loaded.net), **given}
    val = cfg.dataset.val
    metrics = evaluate_net(
        loaded,
        annotations=val.annotations,
        images=val.images,
        protocol=cfg.dataset.protocol,
        flip=cfg.module.flip_test,
    )
    return {**metrics, **given}


def _write_table(run_dir: Path, name: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the rows and write them as Markdown, CSV and, with all that is known, JSON."""
    run_dir.mkdir(parents=True, exist_ok=True)
    shown = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    (run_dir / "table.json").write_text(json.dumps(rows, indent=2, default=list))
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
def _write_picture(path: Path, rows: dict[str, dict[str, Any]], persons: int = 8) -> None:
    """The same persons under each model, one row a model, so that columns compare."""
    models = [load_net(row["ckpt"], **row.get("options", {})) for row in rows.values()]
    last = next(reversed(rows.values()))
    images = models[-1].description["dataset"]["images"]
    everyone = load_persons(last["annotations"], models[-1].net.skeleton)
    grids = []
    for label, net in zip(rows, (model.net for model in models), strict=True):
        dataset = PoseDataset(everyone, images, models[-1].net.skeleton, net.codec.input_size)
        crops = spread(dataset, persons).image
        grid = pose_grid(crops, [net.pose(crops).joints], net.skeleton, columns=persons)
        grids.append(labelled(grid, label))
    width = max(grid.shape[-1] for grid in grids)
    even = [pad(grid, [0, 0, width - grid.shape[-1], 0], fill=255) for grid in grids]
    write_jpeg(torch.cat(even, dim=1), str(path), quality=90)
