"""What a run says of itself when it ends: the AP of its best checkpoint, and how it was trained."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from omegaconf import DictConfig

from kdpose.checkpoints.load import load_net
from kdpose.cli import command, console
from kdpose.display.tables import caption, metrics_table
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.runtime.whole import write_json


def training_record(cfg: DictConfig, trainer: L.Trainer, timer: Timer) -> dict[str, Any]:
    """What ``metrics.json`` says of the training itself."""
    device = trainer.strategy.root_device
    return {
        "command": command(),
        "seed": cfg.seed,
        "epochs": trainer.current_epoch,
        "seconds": round(timer.time_elapsed("train"), 1),
        "devices": trainer.world_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "chosen": _chosen(trainer),
    }


def _chosen(trainer: L.Trainer) -> dict[str, Any]:
    """On which split the best checkpoint was chosen, and its AP there."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    saved = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    score = next((c.best_model_score for c in saved if c.monitor == "val/AP"), None)
    split = Path(data.splits["val"]["annotations"])
    return {
        "split": split.stem,
        "held_out": data.tune is not None,
        "AP": None if score is None else float(score),
    }


def report(cfg: DictConfig, run_dir: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Score the best checkpoint from its file; writes ``metrics.json`` and ``predictions.json``.

    Args:
        cfg: of the run.
        run_dir: its folder.
        training: what ``metrics.json`` is to say of the training itself.
    """
    best = run_dir / "best.ckpt"
    metrics = evaluate_net(
        load_net(best),
        boxes=cfg.data.boxes,
        flip=cfg.module.flip_test,
        batch_size=cfg.data.batch_size,
        num_workers=cfg.data.num_workers,
        results_out=run_dir / "predictions.json",
    )
    metrics |= {"ckpt": str(best.absolute()), "training": training}
    write_json(run_dir / "metrics.json", metrics, indent=2)
    console.print(metrics_table(caption(metrics), {cfg.name: metrics}))
    console.print(_choice(training["chosen"]), highlight=False)
    return metrics


def _choice(chosen: dict[str, Any]) -> str:
    if not chosen["held_out"]:
        return (
            f"best.ckpt was chosen on {chosen['split']}, which also reports its AP: "
            "dataset.tune=0.1 holds out training images for the choice"
        )
    score = "n/a" if chosen["AP"] is None else f"{100 * chosen['AP']:.1f}"
    return f"best.ckpt was chosen on {chosen['split']}, held-out training images: AP {score} there"


def objective(metrics: dict[str, Any]) -> float | None:
    """The AP by which settings are compared: on held-out training images where there are any."""
    chosen = metrics.get("training", {}).get("chosen", {})
    best: float | None = chosen["AP"] if chosen.get("held_out") else metrics["AP"]
    return best
