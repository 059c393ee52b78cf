"""VGG Image Annotator 1 and 2: point regions, whose attributes name joint and person."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from kdpose.formats.persons import Person, Picture, coco_file, named_by_points, nearest
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.skeleton import Skeleton

_PERSON = (
    "person",
    "person_id",
    "group",
    "group_id",
    "instance",
    "track",
    "track_id",
    "animal",
    "id",
)
_HIDDEN = ("occluded", "hidden")
_VISIBLE = ("visibility", "visible", "v")
_OTHER = "regions are neither points nor rectangles and are left out"
_NAMELESS = "points have no joint's name in their attributes and are left out"
_EMPTY = "rectangles have no points of their person and are kept as boxes"
Region = tuple[dict[str, Any], dict[str, Any]]  # its shape and its attributes


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read a project or its annotations.

    The joint is the only attribute of a point, or, of several, the one with the most values; the
    person is the attribute ``person``, ``group``, ``instance``, ``track``, ``animal`` or ``id``.
    The attribute ``occluded`` or ``hidden`` sets v = 1.

    Args:
        source: a project's JSON, or exported annotations as JSON or CSV.
        images: folder of the images; None: beside the file.
        skeleton: joints and their order; None: the names', see
            :func:`kdpose.formats.persons.named_by_points`.
    """
    listed = _from_csv(source) if source.suffix.lower() == ".csv" else _from_json(source)
    every = [region for regions in listed.values() for region in regions]
    joint = _joint_attribute([names for shape, names in every if shape.get("name") == "point"])
    if not joint:
        raise ValueError(
            f"{source.absolute()} (from source) has no point region with an attribute that names "
            "its joint"
        )
    lost = Counter[str]()
    pictures = [
        Picture(
            nearest(name, images or source.parent) or name,
            _persons(regions, joint, lost, f"{source.absolute()}: {name}"),
        )
        for name, regions in listed.items()
    ]
    skeleton = skeleton or named_by_points(source, pictures, "via", lost)
    return coco_file(source, pictures, skeleton, images, lost)


def _from_json(source: Path) -> dict[str, list[Region]]:
    """The regions by file name: they are a list in version 2, an object in version 1."""
    content = read_json(source, "source")
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    files = list(content.values()) if isinstance(content, dict) else []
    if not files or not all(isinstance(f, dict) and "filename" in f for f in files):
        raise ValueError(
            f"{source.absolute()} (from source) is no project of VIA 1 or 2: its files must have "
            "'filename' and 'regions'"
        )
    found: dict[str, list[Region]] = {}
    for file in files:
        regions = file.get("regions") or []
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        shapes = [(r["shape_attributes"], r.get("region_attributes") or {}) for r in regions]
        found.setdefault(_name(file["filename"]), []).extend(shapes)
    return found


def _from_csv(source: Path) -> dict[str, list[Region]]:
    """The same of the CSV, in whose columns JSON is written."""
    found: dict[str, list[Region]] = {}
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, skipinitialspace=True):
                name = row.get("filename") or row.get("#filename") or ""
                shape = json.loads(row["region_shape_attributes"] or "{}")
                region = (shape, json.loads(row["region_attributes"] or "{}"))
                found.setdefault(_name(name), []).extend([region] * bool(shape))
    except (KeyError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{source.absolute()} (from source) is no CSV of VIA, with filename, "
            f"region_shape_attributes and region_attributes: {error}"
        ) from None
    return found


def _name(text: Any) -> str:
    return str(text).replace("\\", "/").split("://", 1)[-1]


def _joint_attribute(points: list[dict[str, Any]]) -> str | None:
    """The attribute that names joints."""
    values: dict[str, set[str]] = {}
    for attributes in points:
        for key, value in attributes.items():
            values.setdefault(key, set()).add(_text(value))
    others = [k for k in values if k.lower() not in (*_PERSON, *_HIDDEN, *_VISIBLE)]
    others = others or list(values)[: len(values) == 1]
    return max(others, key=lambda key: len(values[key])) if others else None


def _text(value: Any) -> str:
    """An attribute's value; of check boxes those that are ticked."""
    ticked = [str(k) for k, on in value.items() if on] if isinstance(value, dict) else [str(value)]
    return " ".join(ticked).strip()


def _persons(regions: list[Region], joint: str, lost: Counter[str], where: str) -> list[Person]:
    people: dict[str, Person] = {}
    for shape, attributes in regions:
        plain = {key.lower(): _text(value) for key, value in attributes.items()}
        keys = [key for key in _PERSON if plain.get(key) and key != joint.lower()]
        group = plain[keys[0]] if keys else ""
        kind = shape.get("name")
        if kind == "rect":
            sides = ("x", "y", "width", "height")
            people.setdefault(group, Person()).box = [float(shape[side]) for side in sides]
        elif kind != "point":
            lost[_OTHER] += 1
        elif not (label := _text(attributes.get(joint, ""))):
            lost[_NAMELESS] += 1
        else:
            person = people.setdefault(group, Person())
            if label in person.points:
                raise ValueError(
                    f"{where}: a person has two '{label}': give each region an attribute 'person'"
                )
            hidden = any(_yes(plain.get(key, "")) for key in _HIDDEN)
            visible = 1 if hidden or any(plain.get(key) == "1" for key in _VISIBLE) else 2
            absent = any(plain.get(key) == "0" for key in _VISIBLE)
            at = (float(shape["cx"]), float(shape["cy"]))
            person.points[label] = (*at, 0 if absent else visible)
    lost[_EMPTY] += sum(not person.points for person in people.values())
    return list(people.values())


def _yes(text: str) -> bool:
    return text.lower() not in ("", "0", "no", "false", "none")
