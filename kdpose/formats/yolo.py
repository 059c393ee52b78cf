"""YOLO-pose: one text file per image with relative coordinates, and a ``data.yaml``."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kdpose.formats.coco_file import CocoFile, image_size, list_images
from kdpose.runtime.coco_schema import CONFIDENCES, LABELLED_FROM, Notes
from kdpose.runtime.image_header import UnreadableImage
from kdpose.skeletons.known import COCO, default_sigmas
from kdpose.skeletons.references import read_flip_pairs
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_SIDELESS = (
    "data.yaml of %s pairs no joints (flip_idx, or kpt_names with left and right): a flip would "
    "exchange none; skeleton=coco or skeleton=FILE.yaml names joints and pairs"
)


def read(
    source: Path,
    images: Path | None,
    skeleton: Skeleton | None,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Read a split.

    Args:
        source: folder of the labels, with a ``data.yaml`` in it or above.
        images: folder of the images; None: the path with ``images`` instead of ``labels``.
        skeleton: names the joints; None: ``kpt_names`` of the ``data.yaml``, or COCO's if there
            are 17 with COCO's ``flip_idx``, or else their numbers, with the flip pairs of
            ``flip_idx``.
        known: the ``data.yaml``; None: that in the folder of the labels or above.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"no folder of labels at {source.absolute()} (from source)")
    pictures = images or exchanged(source, "labels", "images")
    known = known or _data_yaml(source)
    skeleton = skeleton or _skeleton(known, source)
    names, broken, notes = _classes(known), list[str](), Notes()
    file = CocoFile(skeleton, names)
    for path in list_images(pictures):
        name = path.relative_to(pictures)
        try:
            width, height = image_size(path)
        except UnreadableImage as error:
            broken.append(str(error))
            continue
        file.add_image(name.as_posix(), width, height)
        label = source / name.with_suffix(".txt")
        for number, line in enumerate(_lines(label), start=1):
            if line.strip():
                _add(file, _numbers(line, label, number), (width, height), label, notes)
                file.persons[-1]["category_id"] = _category(line.split()[0], names, label)
    _say(source, broken, notes)
    if not file.persons:
        raise ValueError(f"no label of {source.absolute()} (from source) belongs to an image")
    return file.to_dict()


def _say(source: Path, broken: list[str], notes: Notes) -> None:
    for line in broken:
        _log.warning("skipped: %s", line)
    for note, count in notes.items():
        _log.warning("%s (from source): %d %s", source.absolute(), count, note)


def _lines(label: Path) -> list[str]:
    """Of an image's labels; none where it has none."""
    if not label.is_file():
        return []
    try:
        return label.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{label.absolute()} is not text: {error}") from None


def _numbers(line: str, label: Path, number: int) -> list[float]:
    try:
        values = [float(value) for value in line.split()]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{label.absolute()}: line {number} must be finite numbers, got {line}")
    return values


def _add(
    file: CocoFile, values: list[float], size: tuple[int, int], label: Path, notes: Notes
) -> None:
    """One line: class, box by its centre, then x, y or x, y, v of each joint."""
    count = len(file.skeleton)
    dimensions = (len(values) - 5) / count
    if dimensions not in (2, 3):
        raise ValueError(
            f"{label.absolute()}: a line must have 5 + 2 or 3 times {count} numbers, got "
            f"{len(values)}; skeleton=FILE.yaml names other joints"
        )
    scale = np.array(size)
    centre, extent = np.array(values[1:3]) * scale, np.array(values[3:5]) * scale
    points = np.array(values[5:]).reshape(count, int(dimensions))
    seen = points[:, 2:] if dimensions == 3 else 2.0 * (points != 0).any(axis=1, keepdims=True)
    unsure = (seen > 0) & (seen < 1)
    if unsure.any():  # of a model, not of a person
        notes[CONFIDENCES] += int(unsure.sum())
        seen = np.where(seen >= LABELLED_FROM, 2.0, 0.0)
    keypoints = np.hstack([points[:, :2] * scale, seen])
    file.add_person(keypoints, [*(centre - extent / 2), *extent])


def _classes(known: dict[str, Any]) -> list[str]:
    """The names of the classes, which become categories; without names all are persons."""
    names = known.get("names") or []
    if isinstance(names, dict):
        names = [names.get(k, f"class_{k}") for k in range(max(map(int, names)) + 1)]
    return [str(name) for name in names]


def _category(number: str, names: list[str], label: Path) -> int:
    """The category of a line's class."""
    if not names:
        return 1
    place = float(number)
    if not (place.is_integer() and 0 <= place < len(names)):
        raise ValueError(
            f"{label.absolute()}: class {number} is none of data.yaml's {len(names)} names"
        )
    return int(place) + 1


def exchanged(folder: Path, name: str, other: str) -> Path:
    """The same path with the last ``labels`` replaced by ``images``, or the other way round."""
    parts = list(folder.absolute().parts)
    if name not in parts:
        raise ValueError(f"{folder.absolute()} (from source) has no '{name}' in it: set images=DIR")
    parts[len(parts) - 1 - parts[::-1].index(name)] = other
    return Path(*parts)


def _data_yaml(source: Path) -> dict[str, Any]:
    for folder in (source.absolute(), *source.absolute().parents[:3]):
        for path in sorted(folder.glob("*.yaml")):
            values = yaml.safe_load(path.read_text())
            if isinstance(values, dict) and "kpt_shape" in values:
                return values
    return {}


def _skeleton(known: dict[str, Any], source: Path) -> Skeleton:
    if not known:
        raise ValueError(
            f"no data.yaml with kpt_shape above {source.absolute()}: set skeleton=coco or FILE.yaml"
        )
    count = int(known["kpt_shape"][0])
    names = known.get("kpt_names")
    listed = next(iter(names.values())) if isinstance(names, dict) else names
    given = known.get("flip_idx") or None
    if not listed and count == len(COCO) and given == list(COCO.flip_order):
        return COCO
    joints = tuple(str(name).strip() for name in listed or [f"joint_{k}" for k in range(count)])
    if len(joints) != count:
        raise ValueError(
            f"data.yaml of {source.absolute()} has kpt_shape {count} and {len(joints)} kpt_names"
        )
    try:
        pairs = read_flip_pairs(given, joints)
    except ValueError as error:
        raise ValueError(f"data.yaml of {source.absolute()}: {error}") from None
    skeleton = Skeleton("yolo", joints, (), default_sigmas(joints), (), pairs, "default")
    if not skeleton.sides:
        _log.warning(_SIDELESS, source.absolute())
    return skeleton
