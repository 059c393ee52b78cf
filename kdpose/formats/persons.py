"""Persons as most tools store them, points by name; made into a COCO file, losses counted."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.formats.coco_file import CocoFile, image_size, list_images
from kdpose.runtime.coco_schema import LABELLED_FROM
from kdpose.runtime.image_header import UnreadableImage
from kdpose.skeletons.files import category_skeleton
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.references import joint_index
from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_AGAIN = "entries are of images that an earlier entry has, and are left out"
Point = tuple[float, float, float]


@dataclass
class Person:
    """A person of one image.

    Attributes:
        points: x, y, v by the joint's name, image pixels; v = 0 and NaN are not labelled.
        box: x, y, width, height; None: around the joints.
    """

    points: dict[str, Point] = field(default_factory=dict)
    box: Sequence[float] | None = None


@dataclass
class Picture:
    """An image and its persons.

    Attributes:
        name: of the file, relative to the folder of images.
        persons: in it.
        size: width and height; None: measured.
    """

    name: str
    persons: list[Person]
    size: tuple[int, int] | None = None


def named(joints: Sequence[str], form: str, limbs: Any = (), flip_pairs: Any = None) -> Skeleton:
    """The skeleton that a tool's file describes; COCO's and CrowdPose's bring their own limbs."""
    category: dict[str, Any] = {"name": form, "keypoints": list(joints)}
    base = [[_place(a, joints), _place(b, joints)] for a, b in limbs]
    category |= {"skeleton": [pair for pair in base if None not in pair], "flip_pairs": flip_pairs}
    return category_skeleton(category, form)


def named_by_points(
    source: Path, pictures: Iterable[Picture], form: str, lost: Mapping[str, int]
) -> Skeleton:
    """The skeleton of the points' names: COCO's or CrowdPose's, or in alphabetical order.

    The order in which they occur would differ between the files of a data set.

    Raises:
        ValueError: there are no points; what was left out is said first.
    """
    people = (person for picture in pictures for person in picture.persons)
    names = sorted({name for person in people for name in person.points})
    if not names:
        say(source, lost)
        raise ValueError(f"{source.absolute()} (from source) has no person with a labelled joint")
    keys = {joint_key(name): name for name in names}
    known = next((s for s in (COCO, CROWDPOSE) if {*map(joint_key, s.joints)} == keys.keys()), None)
    return named([keys[joint_key(j)] for j in known.joints] if known else names, form)


def _place(reference: Any, joints: Sequence[str]) -> int | None:
    """A joint's number from 1, as COCO's limbs have it."""
    index = joint_index(reference, joints)
    return None if index is None else index + 1


def confident(score: float, lost: Counter[str]) -> float:
    """The v of a point that a model found: 2 for a sure one, 0 for others, which are counted."""
    if score >= LABELLED_FROM:
        return 2.0
    lost[f"points have a confidence below {LABELLED_FROM} and are not labelled"] += 1
    return 0.0


def coco_file(
    source: Path,
    pictures: Sequence[Picture],
    skeleton: Skeleton,
    images: Path | None,
    lost: Counter[str],
) -> dict[str, Any]:
    """The COCO file; what is left out is said.

    Args:
        source: the tool's file, for messages.
        pictures: with their persons; of a name's the first counts.
        skeleton: of all persons, whose joints are matched by name.
        images: folder of the image files, for sizes that are not given.
        lost: reasons why things were left out so far, with their counts.

    Raises:
        FileNotFoundError: an image whose size is needed is not there.
        ValueError: no person is left.
    """
    file = CocoFile(skeleton)
    distinct = {picture.name: picture for picture in reversed(pictures)}  # the first of a name
    lost[_AGAIN] += len(pictures) - len(distinct)
    for picture in reversed(distinct.values()):
        try:
            size = picture.size or image_size((images or source.parent) / picture.name)
        except UnreadableImage as error:
            _log.warning("skipped: %s", error)
            continue
        file.add_image(picture.name, *size)
        for person in picture.persons:
            keypoints = _keypoints(person, skeleton, lost)
            if person.box is not None or keypoints[:, 2].any():
                file.add_person(keypoints, person.box)
            else:
                lost["persons have no box and no labelled joint and are left out"] += 1
    say(source, lost)
    if not file.persons:
        raise ValueError(f"{source.absolute()} (from source) has no person with a labelled joint")
    return file.to_dict()


def say(source: Path, lost: Mapping[str, int]) -> None:
    """Warn of what was left out, and why."""
    for reason, count in lost.items():
        if count:
            _log.warning("%s (from source): %d %s", source.absolute(), count, reason)


def _keypoints(person: Person, skeleton: Skeleton, lost: Counter[str]) -> np.ndarray:
    keypoints = np.zeros((len(skeleton), 3))
    for name, (x, y, v) in person.points.items():
        k = joint_index(name, skeleton.joints)
        if v <= 0 or not (math.isfinite(x) and math.isfinite(y)):
            continue
        if k is None:
            lost[f"points are '{name}', which the skeleton does not have, and are left out"] += 1
        else:
            keypoints[k] = (x, y, v)
    return keypoints


def number(text: str | None, source: Path) -> float:
    """A number in a table; NaN where there is none.

    Raises:
        ValueError: it is something else.
    """
    try:
        return float(text) if text and text.strip() else math.nan
    except ValueError:
        raise ValueError(f"{source.absolute()} (from source): '{text}' is no number") from None


def nearest(name: str, folder: Path) -> str:
    """A file's path, or as much of its end as the folder has; empty where it has none."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", "..")]
    ends = ["/".join(parts[k:]) for k in range(len(parts))]
    return next((end for end in ends if (folder / end).is_file()), "")


def by_number(folder: Path | None, source: Path) -> dict[int, str]:
    """The images of a folder by the number at the end of their names, as videos' frames have it.

    Raises:
        ValueError: there is no folder, or two names have the same number.
    """
    if folder is None:
        raise ValueError(
            f"{source.absolute()} (from source) numbers the frames of a video: set images=FOLDER "
            "of its frames, whose names end in their number, counted from 0"
        )
    found: dict[int, str] = {}
    for path in list_images(folder):
        if numbers := re.findall(r"\d+", path.stem):
            name = path.relative_to(folder).as_posix()
            if (number := int(numbers[-1])) in found:
                raise ValueError(
                    f"{folder.absolute()} (from images): {found[number]} and {name} have the same "
                    "number: one folder holds the frames of one video"
                )
            found[number] = name
    return found
