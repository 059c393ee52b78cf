"""An annotation file as tables, and errors in its format."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.checks.findings import Example, Finding, Severity, first
from kdpose.runtime.annotation_file import Tidied, tidied
from kdpose.runtime.coco_schema import NESTED, STRAYS
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


def make_split(
    data: Mapping[str, Any],
    path: Path,
    skeleton: Skeleton,
    name: str = "",
    folder: Path | None = None,
) -> tuple[Split, list[Finding]]:
    """Tables of the well-formed entries, and findings on the others.

    Args:
        data: the parsed JSON.
        path: of the file.
        skeleton: of its joints.
        name: of the split.
        folder: of the image files, for sizes that the file lacks.
    """
    found = tidied(dict(data), folder)
    images, formed = found.images, found.persons
    row = {image["id"]: number for number, image in enumerate(images)}
    lengths = (0, 3 * len(skeleton))
    other = [p for p in formed if len(p.get("keypoints") or ()) not in lengths]
    fit = [p for p in formed if p["image_id"] in row and len(p.get("keypoints") or ()) in lengths]
    persons = [person for person in fit if "bbox" in person]
    points = _triplets(persons, len(skeleton))
    image = np.array([row[person["image_id"]] for person in persons], dtype=np.int64)
    split = Split(
        name=name,
        path=path,
        skeleton=skeleton,
        data={**data, "images": images, "annotations": formed},
        images=images,
        persons=persons,
        image=image,
        size=_sizes(images)[image],
        box=np.array([p["bbox"] for p in persons], dtype=np.float64).reshape(-1, 4),
        joints=points[..., :2],
        visible=points[..., 2],
        crowd=np.array([bool(p.get("iscrowd")) for p in persons], dtype=bool),
    )
    return split, list(_form_findings(found, len(fit) - len(persons), other, skeleton))


def _sizes(images: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """``(I, 2)`` width and height as annotated, pixels."""
    return np.array([(i["width"], i["height"]) for i in images], dtype=np.float64).reshape(-1, 2)


def _triplets(persons: Sequence[Mapping[str, Any]], joints: int) -> NDArray[np.float64]:
    """``(N, K, 3)`` x, y and visibility; zeros for persons without keypoints."""
    nothing = [0] * (3 * joints)
    points = np.array([p.get("keypoints") or nothing for p in persons], dtype=np.float64)
    return points.reshape(len(persons), joints, 3)


def _form_findings(
    found: Tidied, boxless: int, other: list[dict[str, Any]], skeleton: Skeleton
) -> Iterator[Finding]:
    if found.bad_images:
        message = "image entries need id, file_name, width and height"
        shown = first(map(Example, found.bad_images))
        yield Finding("malformed_image", "error", len(found.bad_images), message, shown)
    if found.bad_persons:
        message = "annotations need image_id, bbox as x, y, width, height, and keypoints"
        shown = first(map(Example, found.bad_persons))
        yield Finding("malformed_person", "error", len(found.bad_persons), message, shown)
    if other:
        lines = (Example(f"{p.get('id', '')} has {len(p['keypoints']) // 3} joints") for p in other)
        message = (
            f"persons must have the {len(skeleton)} joints of skeleton '{skeleton.name}'; use the "
            "skeleton of the annotations (dataset=custom) or convert them"
        )
        yield Finding("joint_count", "unusable", len(other), message, first(lines))
    for note, count in found.notes.items():
        if count and note != STRAYS:  # of which there is a check
            severity: Severity = "note" if note == NESTED else "warning"
            yield Finding("mended", severity, count, note)
    if boxless:
        message = "persons have neither a box nor a labelled joint, and are ignored"
        yield Finding("no_box", "warning", boxless, message)
