"""FiftyOne: a dataset's own export, ``samples.json``, or its export as COCO."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from kdpose.formats import coco
from kdpose.formats.coco_file import image_size
from kdpose.formats.persons import Person, Picture, coco_file, confident, named
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.skeleton import Skeleton

_FIELDS = "keypoints are of further fields than '%s' and are left out"
_COUNT = "persons have another number of points than the skeleton's %d and are left out"


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read an export.

    Points are in the order of the dataset's skeleton. A detection with the ``index`` or
    ``instance`` of a person gives its box.

    Args:
        source: the folder of the export, or its ``samples.json`` or ``labels.json``.
        images: folder of the images, for sizes that the export lacks; None: the export's.
        skeleton: the joints in the order of the points; None: of ``metadata.json``.
    """
    path = source
    if source.is_dir():
        names = ("samples.json", "labels.json")
        path = next((source / name for name in names if (source / name).is_file()), path)
    if path.is_dir():
        raise FileNotFoundError(
            f"no samples.json or labels.json in {source.absolute()} (from source)"
        )
    content = read_json(path, "source")
    if isinstance(content, dict) and "annotations" in content:
        return coco.read(path, images or path.parent / "data", skeleton)
    samples = content.get("samples") if isinstance(content, dict) else None
    if not isinstance(samples, list) or not all(isinstance(s, dict) for s in samples):
        raise ValueError(
            f"{path.absolute()} (from source) has no 'samples': export as FiftyOneDataset"
        )
    lost = Counter[str]()
    name = _field(samples, path)
    skeleton = skeleton or _skeleton(path, name)
    pictures = [_picture(sample, name, skeleton, path, lost) for sample in samples]
    return coco_file(path, pictures, skeleton, images, lost)


def _labels(sample: dict[str, Any], kind: str) -> dict[str, list[dict[str, Any]]]:
    """The labels of a kind, ``Keypoints`` or ``Detections``, by their field."""
    fields = {k: v for k, v in sample.items() if isinstance(v, dict) and v.get("_cls") == kind}
    return {key: value.get(kind.lower()) or [] for key, value in fields.items()}


def _field(samples: list[dict[str, Any]], path: Path) -> str:
    """The field of the persons: ``ground_truth``, or the first with keypoints."""
    names = list(dict.fromkeys(name for s in samples for name in _labels(s, "Keypoints")))
    if not names:
        raise ValueError(f"{path.absolute()} (from source) has no field of Keypoints")
    return "ground_truth" if "ground_truth" in names else names[0]


def _skeleton(path: Path, name: str) -> Skeleton:
    """The skeleton of a field, in the export's ``metadata.json``."""
    metadata = path.parent / "metadata.json"
    facts = read_json(metadata, "source") if metadata.is_file() else {}
    found = (facts.get("skeletons") or {}).get(name) or facts.get("default_skeleton")
    if not found or not found.get("labels"):
        raise ValueError(
            f"{metadata.absolute()} has no skeleton with labels: set skeleton=FILE.yaml, with the "
            "joints in the order of the points"
        )
    labels = [str(label) for label in found["labels"]]
    lines = found.get("edges") or ()
    limbs = [(labels[a], labels[b]) for line in lines for a, b in pairwise(line)]
    return named(labels, "fiftyone", limbs)


def _picture(
    sample: dict[str, Any], name: str, skeleton: Skeleton, path: Path, lost: Counter[str]
) -> Picture:
    facts = sample.get("metadata") or {}
    width, height = facts.get("width"), facts.get("height")
    file_name = str(sample["filepath"]).replace("\\", "/")
    if not (path.parent / file_name).is_file():
        file_name = file_name.rsplit("/", 1)[-1]
    if not (width and height):
        width, height = image_size(path.parent / file_name)
    labels = _labels(sample, "Keypoints")
    lost[_FIELDS % name] += sum(len(v) for key, v in labels.items() if key != name)
    boxes = {
        key: detection["bounding_box"]
        for found in _labels(sample, "Detections").values()
        for detection in found
        if (key := _key(detection)) is not None
    }
    persons = []
    for one in labels.get(name, ()):
        if len(one.get("points") or ()) != len(skeleton):
            lost[_COUNT % len(skeleton)] += 1
            continue
        box = boxes.get(_key(one) or "")
        scaled = [v * (width, height)[k % 2] for k, v in enumerate(box)] if box else None
        persons.append(Person(_points(one, skeleton, (width, height), lost), scaled))
    return Picture(file_name, persons, (int(width), int(height)))


def _key(label: dict[str, Any]) -> str | None:
    """What a person's keypoints and detection share."""
    shared = label.get("instance") or label.get("index")
    return None if shared is None else str(shared)


def _points(
    person: dict[str, Any], skeleton: Skeleton, size: tuple[int, int], lost: Counter[str]
) -> dict[str, tuple[float, float, float]]:
    found = {}
    scores = person.get("confidence") or [None] * len(skeleton)
    for joint, point, score in zip(skeleton.joints, person["points"], scores, strict=True):
        x, y = (_number(value) for value in point)
        if math.isfinite(x) and math.isfinite(y):
            seen = 2.0 if score is None else confident(_number(score), lost)
            found[joint] = (x * size[0], y * size[1], seen)
    return found


def _number(value: Any) -> float:
    """A number, NaN where there is none; MongoDB's JSON writes it as an object."""
    value = value.get("$numberDouble") if isinstance(value, dict) else value
    return math.nan if value is None else float(value)
