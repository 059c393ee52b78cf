"""Score a checkpoint: ``python -m kdpose.evaluate ckpt=runs/lspet_stage2/best.ckpt``."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich import box
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from kdpose.checkpoints import Loaded, load_net
from kdpose.cli import console, entry_point
from kdpose.data.annotations import load_detections, load_persons
from kdpose.data.dataset import PoseDataset, check_images, collate
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.pose_results import PoseResults, Predictions, to_results
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.predictor import pick_device


@torch.inference_mode()
def predict_poses(
    net: PoseNet | RefinedPoseNet,
    dataset: PoseDataset,
    *,
    flip: bool,
    batch_size: int = 64,
    num_workers: int = 2,
    device: str = "auto",
) -> Predictions:
    """Poses of all of a data set's persons, with a progress bar."""
    where = pick_device(device)
    net = net.to(where).eval()
    results = PoseResults(dataset.input_size)
    loader = DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate)
    for batch in track(loader, "evaluating", console=console, transient=True):
        pose = net.pose(batch.image.to(where), flip)
        results.update(
            batch.image_id,
            batch.person,
            pose.joints.cpu(),
            pose.scores.cpu(),
            batch.box_score,
            batch.center,
            batch.size,
        )
    return results.compute()


def complexity(net: PoseNet | RefinedPoseNet) -> dict[str, float]:
    """Parameters, and multiply-adds (which the field prints as FLOPs) of one crop, counted."""
    width, height = net.codec.input_size
    device = next(net.parameters()).device
    crop = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval().pose(crop)
    return {
        "params": sum(p.numel() for p in net.parameters()),
        "gmacs": counter.get_total_flops() / 2e9,
    }


def evaluate_net(
    loaded: Loaded,
    *,
    annotations: str | None = None,
    images: str | None = None,
    protocol: str | None = None,
    boxes: str = "gt",
    flip: bool = True,
    batch_size: int = 64,
    num_workers: int = 2,
    device: str = "auto",
    results_out: Path | None = None,
) -> dict[str, Any]:
    """Score a network on a COCO-format file; by default on its own validation split.

    Args:
        loaded: from :func:`load_net`.
        annotations: annotation file.
        images: folder of its images; with ``annotations`` alone, the checkpoint's own.
        protocol: ``coco`` or ``crowdpose``.
        boxes: ``gt`` or a detections JSON.
        flip: average with the mirrored crop.
        batch_size: crops at once.
        num_workers: processes that cut crops.
        device: ``auto``, ``cpu``, ``cuda``.
        results_out: where the poses are written as COCO results.

    Returns:
        AP and AR as fractions (None where not defined) and all that they depend on.
    """
    own = loaded.description["dataset"]
    net, skeleton = loaded.net, loaded.net.skeleton
    if not own and not (annotations and images):
        raise ValueError("weights of another project know no data: set annotations=JSON images=DIR")
    path = Path(annotations or own["annotations"]).absolute()
    folder = Path(images or own["images"]).absolute()
    rules: Any = protocol or own.get("protocol", "coco")
    if boxes == "gt":
        persons = load_persons(path, skeleton, "annotations")
    else:
        persons = load_detections(boxes, path, skeleton)
    check_images(persons, folder, "images")
    dataset = PoseDataset(persons, folder, skeleton, net.codec.input_size)
    predictions = predict_poses(
        net, dataset, flip=flip, batch_size=batch_size, num_workers=num_workers, device=device
    )
    results = to_results(predictions, skeleton.sigmas, threshold=net.codec.score_threshold)
    if results_out is not None:
        results_out.write_text(json.dumps(results))
    scores = keypoint_ap(path, results, protocol=rules, sigmas=skeleton.sigmas)
    return {
        **scores,
        "protocol": rules,
        "split": path.stem,
        "annotations": str(path),
        "annotations_sha256": _sha256(path),
        "images": len(set(persons.image_id.tolist())),
        "persons": len(persons),
        "box_source": "gt" if boxes == "gt" else str(Path(boxes).absolute()),
        "boxes_sha256": None if boxes == "gt" else _sha256(Path(boxes)),
        "flip": flip,
        "flip_shift_bins": net.codec.flip_shift if flip else None,
        "skeleton": skeleton.name,
        "sigmas": list(skeleton.sigmas),
        "input_size": list(net.codec.input_size),
        **complexity(net),
        "version": version("kdpose"),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


METRICS = ("AP", "AP50", "AP75", "AR", "APM", "APL", "AP_easy", "AP_medium", "AP_hard")


def metrics_table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """AP, AR and cost side by side, in percent; ``n/a`` where not defined."""
    shown = [name for name in METRICS if any(name in row for row in rows.values())]
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in table_header(shown):
        table.add_column(name, justify="right", no_wrap=True)
    for label, row in rows.items():
        table.add_row(label, *table_cells(row, shown))
    return table


def table_header(shown: list[str]) -> list[str]:
    """Short names of the figures, as the field's tables have them."""
    short = {"AP_easy": "AP_E", "AP_medium": "AP_M", "AP_hard": "AP_H"}
    return [*(short.get(name, name) for name in shown), "params M", "GFLOPs"]


def table_cells(row: dict[str, Any], shown: list[str]) -> list[str]:
    """One model's figures as text."""
    figures = ["n/a" if row.get(n) is None else f"{100 * row[n]:.1f}" for n in shown]
    return [*figures, f"{row['params'] / 1e6:.2f}", f"{row['gmacs']:.3f}"]


@entry_point("evaluate")
def main(cfg: DictConfig) -> float | None:
    """Entry point."""
    loaded = load_net(cfg.ckpt, skeleton=cfg.skeleton, input_size=cfg.input_size, label=cfg.label)
    metrics = evaluate_net(
        loaded,
        annotations=cfg.annotations,
        images=cfg.images,
        protocol=cfg.protocol,
        boxes=cfg.boxes,
        flip=cfg.flip,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        device=cfg.device,
    )
    metrics["ckpt"] = str(Path(cfg.ckpt).absolute())
    source = "ground-truth boxes" if cfg.boxes == "gt" else f"boxes of {Path(cfg.boxes).name}"
    title = (
        f"{metrics['split']}: {metrics['persons']} persons in {metrics['images']} images, "
        f"{source}, flip test {'on' if cfg.flip else 'off'}"
    )
    console.print(metrics_table(title, {Path(cfg.ckpt).parent.name: metrics}))
    if cfg.out:
        out = Path(cfg.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(metrics, indent=2))
        console.print(f"written to {out.absolute()}")
    return metrics["AP"]


if __name__ == "__main__":
    main()
