"""Labelme: one JSON per image; points and rectangle of a person share a ``group_id``."""

from pathlib import Path
from typing import Any

import numpy as np

from kdpose.formats.coco_file import CocoFile
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.known import default_sigmas
from kdpose.skeletons.skeleton import Skeleton


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read a folder of Labelme's JSON files.

    A point's label is its joint; the flag ``occluded`` or ``hidden`` sets v = 1. Points without a
    ``group_id`` belong to the only person of the image. File names come from ``imagePath``.

    Args:
        source: the folder.
        images: unused.
        skeleton: joints and their order; None: all labels, in alphabetical order.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else []
    if not paths:
        raise FileNotFoundError(f"no Labelme JSON in {source.absolute()} (from source)")
    contents = [read_json(path, "source") for path in paths]
    for path, content in zip(paths, contents, strict=True):
        if not isinstance(content, dict) or "shapes" not in content:
            raise ValueError(
                f"{path.absolute()} (from source) is not a Labelme file: it has no 'shapes'"
            )
    skeleton = skeleton or _skeleton(contents)
    file = CocoFile(skeleton)
    for path, content in zip(paths, contents, strict=True):
        name = Path(str(content["imagePath"]).replace("\\", "/")).name
        file.add_image(name, content["imageWidth"], content["imageHeight"])
        groups: dict[Any, list[dict[str, Any]]] = {}
        for shape in content["shapes"]:
            groups.setdefault(shape.get("group_id"), []).append(shape)
        for shapes in groups.values():
            if any(_type(shape) == "point" for shape in shapes):
                _add(file, shapes, path)
    return file.to_dict()


def _type(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type", "polygon"))


def _skeleton(contents: list[dict[str, Any]]) -> Skeleton:
    shapes = [shape for content in contents for shape in content["shapes"]]
    names = tuple(sorted({str(s["label"]) for s in shapes if _type(s) == "point"}))
    return Skeleton("labelme", names, (), default_sigmas(names), sigma_source="default")


def _add(file: CocoFile, shapes: list[dict[str, Any]], path: Path) -> None:
    """One person: its points, and its rectangle if there is one."""
    joints = file.skeleton.joints
    keypoints, box = np.zeros((len(joints), 3)), None
    for shape in shapes:
        label, points = str(shape["label"]), np.array(shape["points"], dtype=np.float64)
        if _type(shape) == "rectangle":
            low, high = points.min(axis=0), points.max(axis=0)
            box = [*low, *(high - low)]
        elif _type(shape) == "point":
            if label not in joints:
                raise ValueError(
                    f"{path.absolute()}: '{label}' is not a joint: use one of {', '.join(joints)}"
                )
            k = joints.index(label)
            if keypoints[k, 2]:
                raise ValueError(
                    f"{path.absolute()}: a person has two '{label}'; give each person a group_id"
                )
            flags = shape.get("flags") or {}
            hidden = any(flags.get(flag) for flag in ("occluded", "hidden"))
            keypoints[k] = (*points[0], 1 if hidden else 2)
    file.add_person(keypoints, box)
