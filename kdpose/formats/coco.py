"""COCO's and CrowdPose's own files, completed and corrected."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.data.boxes import upright
from kdpose.formats.coco_file import CocoFile, category
from kdpose.runtime.annotation_file import AnnotationFile, check_lists, tidied
from kdpose.runtime.categories import category_id, of_people
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


def read(
    source: Path,
    images: Path | None,
    skeleton: Skeleton | None,
    only: str | int | None = None,
) -> dict[str, Any]:
    """Fill in what can be derived and correct known errors.

    Swapped widths and heights are corrected; missing boxes, areas, counts and ``iscrowd`` are
    derived; limbs that point at no joint, as in CrowdPose, are replaced by the skeleton's. All
    other fields, including ids, ``crowdIndex`` and ``num_keypoints``, stay unchanged. Annotations
    of categories without keypoints, or with other joints, are left out; the others keep theirs.

    Args:
        source: the JSON.
        images: folder of the images, for sizes that the file lacks.
        skeleton: of the persons; None: the file's own.
        only: the name or id of the only category to keep.
    """
    where = f"{source.absolute()} (from source)"
    data = check_lists(read_json(source, "source"), where)
    if not data.get("annotations") or not data.get("images"):
        raise ValueError(f"{where} has no 'images' and 'annotations'")
    data = _chosen(data, only, str(source.absolute()))
    found = tidied(data, images)
    found.check(where)
    data = {**data, "images": found.images, "annotations": found.persons}
    file = AnnotationFile(source.absolute(), data)
    skeleton = skeleton or named_skeleton(file)
    kept = _categories(data, skeleton)
    sizes = _upright(data, str(source.absolute()))
    persons = _complete_persons(file, sizes, skeleton)
    return {
        **data,
        "images": [sizes[image["id"]] for image in data["images"]],
        "annotations": _of_categories(persons, [one["id"] for one in kept]),
        "categories": kept,
    }


def _of_categories(persons: list[dict[str, Any]], ids: list[Any]) -> list[dict[str, Any]]:
    """Persons, those of an unlisted category in the first."""
    kinds = [category_id(person) for person in persons]
    return [
        {**person, "category_id": kind if kind in ids else ids[0]}
        for person, kind in zip(persons, kinds, strict=True)
    ]


def _chosen(data: dict[str, Any], only: str | int | None, where: str) -> dict[str, Any]:
    """The content with the annotations of persons alone."""
    chosen, _ = of_people(data, only, where)
    lost = len(data["annotations"]) - len(chosen["annotations"])
    if lost:
        reason = "of categories without keypoints or with other joints than the first that has them"
        reason = reason if only is None else f"not of category {only}"
        _log.warning("%s: %d annotations are left out: they are %s", where, lost, reason)
    return chosen


def _categories(data: dict[str, Any], skeleton: Skeleton) -> list[dict[str, Any]]:
    """The file's categories, with all parts of the skeleton; one if it lists none."""
    parts = category(skeleton)
    own = ("id", "name", "supercategory")
    return [
        {**parts, **{key: one[key] for key in own if key in one}, "id": category_id(one, "id")}
        for one in data.get("categories") or ()
    ] or [parts]


def _upright(data: dict[str, Any], where: str) -> dict[int, dict[str, Any]]:
    """The images by id, see :func:`upright`."""
    images, persons = data["images"], [p for p in data["annotations"] if p.get("bbox")]
    rows = {image["id"]: row for row, image in enumerate(images)}
    size = np.array([(x["width"], x["height"]) for x in images], np.float64).reshape(-1, 2)
    place = np.array([rows.get(person["image_id"], -1) for person in persons], np.int64)
    boxes = np.array([person["bbox"] for person in persons], np.float64).reshape(-1, 4)
    mended = upright(size, place, boxes, where)
    return {
        image["id"]: image if (now == was).all() else {**image, "width": w, "height": h}
        for image, was, now in zip(images, size, mended, strict=True)
        for w, h in [now.astype(int).tolist()]
    }


def _complete_persons(
    file: AnnotationFile, sizes: dict[Any, dict[str, Any]], skeleton: Skeleton
) -> list[dict[str, Any]]:
    """The persons that have a box or joints; says how many of known images have neither."""
    listed = file.content["annotations"]
    persons = [_completed(p, sizes.get(p["image_id"]), skeleton) for p in listed]
    lost = sum(p is None and a["image_id"] in sizes for p, a in zip(persons, listed, strict=True))
    if lost:
        _log.warning("%s: %d persons without box and joints are left out", file.path, lost)
    return [person for person in persons if person is not None]


def _completed(
    person: dict[str, Any], image: dict[str, Any] | None, skeleton: Skeleton
) -> dict[str, Any] | None:
    """A person with all fields, or None without a box and without joints."""
    keypoints = person.get("keypoints") or [0] * (3 * len(skeleton))
    if image is None or not (person.get("bbox") or any(keypoints[2::3])):
        return None
    file = CocoFile(skeleton)
    file.add_image(str(image["file_name"]), image["width"], image["height"])
    triples = [keypoints[k : k + 3] for k in range(0, len(keypoints), 3)]
    file.add_person(triples, person.get("bbox"))
    given = {key: value for key, value in person.items() if value is not None}
    return {**file.persons[0], **given}
