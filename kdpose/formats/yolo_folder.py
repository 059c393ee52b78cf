"""Ultralytics' data sets: all splits that a ``data.yaml`` names, in one go."""

from pathlib import Path
from typing import Any

import yaml

from kdpose.formats import yolo
from kdpose.skeletons.skeleton import Skeleton

_SPLITS = ("train", "val", "test")


def read(source: Path, skeleton: Skeleton | None) -> dict[str, dict[str, Any]]:
    """Read the splits by their name; file names are relative to the data set's root.

    Args:
        source: the ``data.yaml``.
        skeleton: names the joints; None: as :func:`kdpose.formats.yolo.read`.

    Raises:
        FileNotFoundError: the file or a split's folder is not there.
        ValueError: it is no ``data.yaml`` of poses.
    """
    if not source.is_file():
        raise FileNotFoundError(f"no data.yaml at {source.absolute()} (from source)")
    try:
        known = yaml.safe_load(source.read_text("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{source.absolute()} (from source) is not YAML: {text}") from None
    if not isinstance(known, dict) or "kpt_shape" not in known:
        raise ValueError(f"{source.absolute()} (from source) has no kpt_shape, as poses need")
    root = data_root(source, known)
    named = [split for split in _SPLITS if known.get(split)]
    if not named:
        raise ValueError(f"{source.absolute()} (from source) names neither train, val nor test")
    return {split: _split(source, root, known, split, skeleton) for split in named}


def data_root(source: Path, known: dict[str, Any]) -> Path:
    """The folder that the splits start from: ``path``, or that of the ``data.yaml``."""
    given = source.absolute().parent / str(known.get("path") or "")
    return given if given.is_dir() else source.absolute().parent


def _split(
    source: Path, root: Path, known: dict[str, Any], split: str, skeleton: Skeleton | None
) -> dict[str, Any]:
    """A split, whose folders follow each other."""
    listed = known[split] if isinstance(known[split], list) else [known[split]]
    whole: dict[str, Any] = {"images": [], "annotations": []}
    for entry in map(str, listed):
        pictures = _folder(source, root, entry, split)
        part = yolo.read(yolo.exchanged(pictures, "images", "labels"), pictures, skeleton, known)
        begin = pictures.relative_to(root).as_posix()
        images, persons = len(whole["images"]), len(whole["annotations"])
        whole["images"] += [
            {**one, "id": one["id"] + images, "file_name": f"{begin}/{one['file_name']}"}
            for one in part["images"]
        ]
        whole["annotations"] += [
            {**one, "id": one["id"] + persons, "image_id": one["image_id"] + images}
            for one in part["annotations"]
        ]
        whole["categories"] = part["categories"]
    return whole


def _folder(source: Path, root: Path, entry: str, split: str) -> Path:
    """The folder of a split's images; ``../train/images``, as Roboflow writes, is below."""
    found = [root / entry, root / entry.removeprefix("../")]
    folder = next((one.resolve() for one in found if one.is_dir()), None)
    if folder is None or not folder.is_relative_to(root.resolve()):
        raise FileNotFoundError(
            f"{source.absolute()} (from source): {split}: {entry} is no folder of images in "
            f"{root}: name folders, not lists of files"
        )
    return root / folder.relative_to(root.resolve())
