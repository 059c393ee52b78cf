"""An annotation file as tables, and errors in its format."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.checks.findings import Example, Finding, first
from kdpose.skeletons.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Split:
    """The well-formed images and persons of an annotation file.

    Attributes:
        name: ``train``, of several training sets ``train.0`` and so on, ``val``, or empty for a
            single file.
        path: of the file.
        skeleton: of its joints.
        data: the parsed JSON.
        images: well-formed image entries.
        persons: N well-formed annotations with a box in a known image; the tables' rows.
        image: ``(N,)`` row of each person's image in ``images``.
        size: ``(N, 2)`` width and height of that image, pixels, as the file has them.
        box: ``(N, 4)`` x, y, width, height, image pixels.
        joints: ``(N, K, 2)`` image pixels.
        visible: ``(N, K)`` COCO's v; zeros where nothing is labelled.
        crowd: ``(N,)`` bool.
    """

    name: str
    path: Path
    skeleton: Skeleton
    data: Mapping[str, Any]
    images: list[dict[str, Any]]
    persons: list[dict[str, Any]]
    image: NDArray[np.int64]
    size: NDArray[np.float64]
    box: NDArray[np.float64]
    joints: NDArray[np.float64]
    visible: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """``(N,)``: persons used in training: with a labelled joint, not a crowd."""
        return (self.visible != 0).any(axis=1) & ~self.crowd

    @property
    def boxes_alone(self) -> bool:
        """Whether nobody has joints, and a teacher may say them: not in validation."""
        return self.name != "val" and not any(person.get("keypoints") for person in self.persons)

    def example(self, row: int | np.integer[Any], detail: str) -> Example:
        """A person as an example."""
        name = str(self.images[self.image[row]]["file_name"])
        return Example(detail, name, self.persons[row].get("id"), int(row))


def is_coco(data: Any) -> bool:
    """Whether a parsed JSON has the lists of a COCO file."""
    return isinstance(data, dict) and all(
        isinstance(data.get(key), list) for key in ("images", "annotations")
    )


def make_split(
    data: Mapping[str, Any], path: Path, skeleton: Skeleton, name: str = ""
) -> tuple[Split, list[Finding]]:
    """Tables of the well-formed entries, and findings on the others."""
    images, bad_images = _sorted_out(data["images"], _lacks_image)
    formed, bad_persons = _sorted_out(data["annotations"], _lacks_person)
    row = {image["id"]: number for number, image in enumerate(images)}
    lengths = (0, 3 * len(skeleton))
    other = [p for p in formed if len(p.get("keypoints") or ()) not in lengths]
    persons = [
        person
        for person in formed
        if person["image_id"] in row and len(person.get("keypoints") or ()) in lengths
    ]
    nothing = [0] * (3 * len(skeleton))
    points = np.array([p.get("keypoints") or nothing for p in persons], dtype=np.float64)
    points = points.reshape(len(persons), len(skeleton), 3)
    image = np.array([row[person["image_id"]] for person in persons], dtype=np.int64)
    sizes = np.array([(i["width"], i["height"]) for i in images], dtype=np.float64).reshape(-1, 2)
    split = Split(
        name=name,
        path=path,
        skeleton=skeleton,
        data=data,
        images=images,
        persons=persons,
        image=image,
        size=sizes[image],
        box=np.array([p["bbox"] for p in persons], dtype=np.float64).reshape(-1, 4),
        joints=points[..., :2],
        visible=points[..., 2],
        crowd=np.array([bool(p.get("iscrowd")) for p in persons], dtype=bool),
    )
    return split, list(_form_findings(bad_images, bad_persons, other, skeleton))


def _sorted_out(
    entries: list[Any], lacks: Callable[[Any], str | None]
) -> tuple[list[dict[str, Any]], list[Example]]:
    """The well-formed entries, and what is missing in the others."""
    good, bad = [], []
    for entry in entries:
        if lack := lacks(entry):
            bad.append(Example(f"{_named(entry)} {lack}"))
        else:
            good.append(entry)
    return good, bad


def _lacks_image(image: Any) -> str | None:
    if not isinstance(image, dict):
        return "is not an object"
    lacking = [key for key in ("id", "file_name", "width", "height") if image.get(key) is None]
    if lacking:
        return f"has no {', '.join(lacking)}"
    sizes = (image["width"], image["height"])
    return None if _numbers(sizes) and min(sizes) > 0 else f"measures {sizes[0]} x {sizes[1]}"


def _lacks_person(person: Any) -> str | None:
    if not isinstance(person, dict):
        return "is not an object"
    if person.get("image_id") is None:
        return "has no image_id"
    if not isinstance(box := person.get("bbox"), list) or len(box) != 4 or not _numbers(box):
        return f"must have bbox [x, y, width, height], has {person.get('bbox')}"
    keypoints = person.get("keypoints") or []
    if not isinstance(keypoints, list) or len(keypoints) % 3 or not _numbers(keypoints):
        return "must have finite keypoints [x, y, v, ...]"
    return None


def _numbers(values: Any) -> bool:
    try:
        return isfinite(sum(values))
    except TypeError:
        return False


def _form_findings(
    bad_images: list[Example],
    bad_persons: list[Example],
    other: list[dict[str, Any]],
    skeleton: Skeleton,
) -> Iterator[Finding]:
    if bad_images:
        message = "image entries need id, file_name, width and height"
        yield Finding("malformed_image", "error", len(bad_images), message, first(bad_images))
    if bad_persons:
        message = "annotations need image_id, bbox as x, y, width, height, and keypoints"
        yield Finding("malformed_person", "error", len(bad_persons), message, first(bad_persons))
    if other:
        shown = (Example(f"{_named(p)} has {len(p['keypoints']) // 3} joints") for p in other)
        message = (
            f"persons must have the {len(skeleton)} joints of skeleton '{skeleton.name}'; use the "
            "skeleton of the annotations (dataset=custom) or convert them"
        )
        yield Finding("joint_count", "unusable", len(other), message, first(shown))


def _named(entry: Any) -> str:
    return str(entry.get("id", entry))[:60] if isinstance(entry, dict) else str(entry)[:60]
