"""Find poses in images: ``python -m kdpose.predict ckpt=C source=photo.jpg``."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image, UnidentifiedImageError
from rich.progress import track

from kdpose.checkpoints import load_net
from kdpose.cli import console, entry_point
from kdpose.data.annotations import read_json
from kdpose.predictor import Predictor

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def find_images(source: str) -> list[Path]:
    """The image itself, or a folder's images in order of name.

    Raises:
        FileNotFoundError: there is no such path.
        ValueError: the folder has no image.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no image or folder at {path.absolute()} (from source)")
    if path.is_file():
        return [path]
    images = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not images:
        raise ValueError(f"no image in {path.absolute()} (from source): {sorted(_SUFFIXES)}")
    return images


def image_ids(images: list[Path]) -> dict[Path, int]:
    """Ids as COCO and CrowdPose name their files; where a name is no number, places in order."""
    stems = [path.stem for path in images]
    if all(stem.isdecimal() for stem in stems) and len({int(s) for s in stems}) == len(stems):
        return {path: int(path.stem) for path in images}
    return {path: number for number, path in enumerate(images, start=1)}


def read_boxes(path: str) -> dict[int, list[dict[str, Any]]]:
    """Person detections by image id."""
    boxes = defaultdict(list)
    for box in read_json(path, "boxes"):
        if box.get("category_id", 1) == 1 and min(box["bbox"][2:]) > 0:
            boxes[int(box["image_id"])].append(box)
    return boxes


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Entry point."""
    loaded = load_net(cfg.ckpt, skeleton=cfg.skeleton, input_size=cfg.input_size, label=cfg.label)
    predictor = Predictor(loaded, cfg.device, cfg.flip, cfg.batch_size)
    images = find_images(cfg.source)
    ids = image_ids(images)
    detections = None if cfg.boxes == "whole" else read_boxes(cfg.boxes)
    if detections is not None and not detections.keys() & set(ids.values()):
        raise ValueError(
            f"no box of {Path(cfg.boxes).absolute()} (from boxes) belongs to the {len(ids)} images "
            f"of {Path(cfg.source).absolute()}: their ids are {sorted(ids.values())[:3]} ..."
        )
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    broken: list[str] = []
    for path in track(images, "predicting", console=console, transient=True):
        found = detections[ids[path]] if detections is not None else None
        boxes = None if found is None else np.array([b["bbox"] for b in found]).reshape(-1, 4)
        scores = None if found is None else [b.get("score", 1.0) for b in found]
        try:
            poses = predictor(path, boxes, scores)
        except (UnidentifiedImageError, OSError) as error:
            broken.append(f"{path}: {error}")
            continue
        results += [{**r, "file_name": path.name} for r in poses.to_coco(ids[path])]
        Image.fromarray(poses.draw(cfg.threshold)).save(out / f"{path.stem}.jpg", quality=92)
    (out / "predictions.json").write_text(json.dumps(results))
    for line in broken:
        console.print(f"[yellow]skipped, cannot be read:[/] {line}", soft_wrap=True)
    console.print(
        f"{len(results)} persons in {len(images) - len(broken)} images: "
        f"{(out / 'predictions.json').absolute()}, drawn pictures beside it",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
