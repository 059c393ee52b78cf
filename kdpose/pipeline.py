"""Teacher, student and refiner in one command, each stage an experiment of its own."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from omegaconf import DictConfig
from torchvision.io import write_jpeg

from kdpose.checkpoints import load_net
from kdpose.cli import console
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, collate
from kdpose.drawing import pose_grid
from kdpose.evaluate import evaluate_net
from kdpose.tables import METRICS, caption, metrics_table, table_cells, table_header


def run_pipeline(
    cfg: DictConfig, overrides: list[str], train: Callable[[DictConfig], dict[str, Any]]
) -> float | None:
    """Run the stages in order, reusing those that are finished, and write their common table.

    Args:
        cfg: ``pipeline.stages`` maps a row's label to ``experiment`` and ``overrides``.
        overrides: the command line's, passed on to every stage.
        train: trains one composed configuration and returns its metrics.

    Returns:
        AP of the last stage.
    """
    common = [
        o for o in overrides if not o.lstrip("+").startswith(("experiment=", "pipeline.", "name="))
    ]
    teacher_given = any(o.startswith("teacher.ckpt=") for o in common)
    run_dir = Path(cfg.run_dir)
    rows: dict[str, dict[str, Any]] = {}
    for label, stage in cfg.pipeline.stages.items():
        if label == "baseline" and not cfg.pipeline.baseline:
            continue
        own = [*cfg.pipeline.overrides, *stage.overrides, *common]
        if not stage.taught:
            if label == "teacher" and teacher_given:
                rows["teacher"] = _score_given(cfg)
                continue
            own = [o for o in own if not o.startswith("teacher.")]
        composed = compose(
            "train",
            overrides=[f"+experiment={stage.experiment}", "resume=auto", *own],
        )
        rows[str(label)] = train(composed)
    _write_table(run_dir, cfg.name, rows)
    _write_picture(run_dir / "poses.jpg", rows)
    console.print(f"table and pictures in {run_dir.absolute()}")
    return next(reversed(rows.values()))["AP"]


def _score_given(cfg: DictConfig) -> dict[str, Any]:
    """Score the teacher that the user brought on this pipeline's validation split."""
    ckpt = str(cfg.teacher.ckpt)
    val = cfg.dataset.val
    options = {key: cfg.teacher[key] for key in ("skeleton", "input_size", "label")}
    metrics = evaluate_net(
        load_net(ckpt, "teacher.ckpt", **options),
        annotations=val.annotations,
        images=val.images,
        protocol=cfg.dataset.protocol,
        flip=cfg.module.flip_test,
    )
    return {**metrics, "ckpt": ckpt, "options": options}


def _write_table(run_dir: Path, name: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print the rows and write them as Markdown and CSV."""
    run_dir.mkdir(parents=True, exist_ok=True)
    shown = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    title = f"{name}: {caption(next(iter(rows.values())))}"
    console.print(metrics_table(title, rows))
    header = ["model", *table_header(shown)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    lines += [[label, *table_cells(row, shown)] for label, row in rows.items()]
    markdown = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    (run_dir / "table.md").write_text(f"{title}\n\n{markdown}\n")
    with (run_dir / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", *shown, "params", "gmacs", "ckpt"])
        for label, row in rows.items():
            writer.writerow([label, *(row.get(k) for k in (*shown, "params", "gmacs", "ckpt"))])


@torch.inference_mode()
def _write_picture(path: Path, rows: dict[str, dict[str, Any]], persons: int = 8) -> None:
    """The same persons under each model, one row a model, so that columns compare."""
    last = next(reversed(rows.values()))
    grids = []
    for row in rows.values():
        net = load_net(row["ckpt"], **row.get("options", {})).net
        everyone = load_persons(last["annotations"], net.skeleton)
        images = load_net(last["ckpt"]).description["dataset"]["images"]
        dataset = PoseDataset(everyone, images, net.skeleton, net.codec.input_size)
        step = max(1, len(dataset) // persons)
        crops = collate(
            [dataset[i] for i in range(0, min(len(dataset), step * persons), step)]
        ).image
        grids.append(pose_grid(crops, [net.pose(crops).joints], net.skeleton, columns=persons))
    write_jpeg(torch.cat(grids, dim=1), str(path), quality=90)
