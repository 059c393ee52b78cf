"""COCO-format annotations as arrays of persons; no pixels are read here."""

import gc
import json
import logging
import mmap
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from kdpose.runtime.files import check_file
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Persons:
    """N persons of one split, one row each.

    Attributes:
        files: ``(N,)`` image file names, as the annotation file spells them.
        image_id: ``(N,)`` int64.
        image_size: ``(N, 2)`` width and height of the image, pixels.
        box: ``(N, 4)`` x, y, width, height, image pixels.
        box_score: ``(N,)``, 1 for ground truth.
        joints: ``(N, K, 2)`` image pixels; zeros for detections.
        visible: ``(N, K)`` COCO's v; zeros for detections.
        annotation_id: ``(N,)`` ids in the annotation file; None for detections.
        taught: ``(N, K, 2)`` image pixels, a teacher's stored joints; None without a teacher's.
        taught_score: ``(N, K)`` in [0, 1], 0 where the teacher says nothing.
    """

    files: NDArray[np.str_]
    image_id: NDArray[np.int64]
    image_size: NDArray[np.float32]
    box: NDArray[np.float32]
    box_score: NDArray[np.float32]
    joints: NDArray[np.float32]
    visible: NDArray[np.float32]
    annotation_id: NDArray[np.int64] | None = None
    taught: NDArray[np.float32] | None = None
    taught_score: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of persons N."""
        return len(self.image_id)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Persons":
        """Some of the persons."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: None if v is None else v[rows] for n, v in columns.items()}
        return Persons(**taken)


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: float
    height: float


class _Person(msgspec.Struct):
    image_id: int
    id: int | str = -1
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    iscrowd: float | bool = 0
    area: float = 1


class _File(msgspec.Struct):
    """What is read of a file; persons one by one, or a million would fill gigabytes."""

    images: list[_Image]
    annotations: list[msgspec.Raw]


def read_json(path: str | Path, key: str) -> Any:  # noqa: ANN401
    """Read a JSON file; ``key`` is the config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not JSON.
    """
    path = check_file(path, key)
    collecting = gc.isenabled()
    gc.disable()  # there is no garbage, and looking for it takes a third of the time
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.absolute()} (from {key}) is not JSON: {error}") from None
    finally:
        if collecting:
            gc.enable()


def clean_boxes(boxes: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip boxes ``(N, 4)`` to their images as HRNet's code does; no size where nothing is left."""
    low = np.maximum(0, boxes[:, :2])
    high = np.minimum(size - 1, low + np.maximum(0, boxes[:, 2:] - 1))
    return np.concatenate([low, high - low], axis=1)


def upright(
    size: NDArray[np.float64],
    place: NDArray[np.int64],
    boxes: NDArray[np.float64],
    where: str,
) -> NDArray[np.float64]:
    """The images' sizes ``(I, 2)``, exchanged where all boxes fit in the image only so.

    Some releases of CrowdPose's annotations have them swapped, which would cut boxes off.

    Args:
        size: width and height.
        place: ``(N,)``, each person's image, -1 for none.
        boxes: ``(N, 4)``, NaN for none.
        where: the file, for the warning.
    """
    reach = np.zeros_like(size)
    boxed = (place >= 0) & ~np.isnan(boxes[:, 0])
    np.maximum.at(reach, place[boxed], boxes[boxed, :2] + boxes[boxed, 2:])
    room = size + 1  # a pixel of slack: files round
    beyond, within = (reach > room).any(axis=1), (reach[:, ::-1] <= room).all(axis=1)
    swapped = np.logical_and(beyond, within)
    if swapped.any():
        count = swapped.sum()
        _log.warning("%s: %d images have width and height swapped; repaired", where, count)
    return np.where(swapped[:, None], size[:, ::-1], size)


def load_persons(
    annotations: str | Path,
    skeleton: Skeleton,
    key: str = "dataset.annotations",
    unlabelled: bool = False,
) -> Persons:
    """Read the persons that have a box and at least one labelled joint; crowds are left out.

    Args:
        annotations: COCO-keypoints JSON.
        skeleton: what the file's joints must agree with in number.
        key: config key of the path, for errors.
        unlabelled: keep persons without a labelled joint too, for a teacher to label.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no COCO-keypoints file, its joints do not fit the skeleton, or nobody
            in it has a labelled joint.
    """
    where = f"{Path(annotations).absolute()} (from {key})"
    file = _parse(check_file(annotations, key), where)
    ids = np.array([image.id for image in file.images], dtype=np.int64)
    names = np.array([image.file_name for image in file.images])
    size = np.array([(image.width, image.height) for image in file.images]).reshape(-1, 2)
    count = len(file.annotations)
    place, boxes, triplets, number = _persons(file, skeleton, where)
    del file  # what was read of it is smaller
    size = upright(size, place, boxes, where)
    known = triplets[..., 2].any(axis=1)
    rows = np.flatnonzero((known | (place >= 0)) & ~np.isnan(boxes[:, 0]) if unlabelled else known)
    boxes = clean_boxes(boxes[rows], size[place[rows]])
    sized = (boxes[:, 2:] > 0).all(axis=1)
    rows, boxes = rows[sized], boxes[sized]
    if not len(rows):
        raise ValueError(f"{where}: none of {count} persons has a labelled joint")
    image = place[rows]
    joints = np.ascontiguousarray(triplets[..., :2][rows])
    visible = np.ascontiguousarray(triplets[..., 2][rows])
    del triplets  # of millions, no copy lives longer than it must
    return Persons(
        files=names[image],
        image_id=ids[image],
        image_size=size[image].astype(np.float32),
        box=boxes.astype(np.float32),
        box_score=np.ones(len(rows), dtype=np.float32),
        joints=joints,
        visible=visible,
        annotation_id=number[rows],
    )


def _parse(path: Path, where: str) -> _File:
    """The file, whose parts hold on to its text: mapped, it takes no memory of its own."""
    try:
        with path.open("rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0  # and cannot be mapped
            text = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return msgspec.json.decode(text, type=_File)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{where} is no COCO-keypoints file: it needs 'images' and 'annotations': {error}"
        ) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None


def _persons(
    file: _File, skeleton: Skeleton, where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]]:
    """Each person's image, box, joints and id, as the file has them.

    Returns:
        ``(N,)`` places among the images, -1 for none and for crowds; boxes ``(N, 4)``, NaN for
        none; joints ``(N, K, 3)``, zeros for those without an image or a size; ids ``(N,)``.
    """
    number = {image.id: place for place, image in enumerate(file.images)}
    count = len(file.annotations)
    place = np.full(count, -1, dtype=np.int64)
    boxes = np.full((count, 4), np.nan)
    joints = np.zeros((count, 3 * len(skeleton)), dtype=np.float32)
    ids = np.full(count, -1, dtype=np.int64)
    decode = msgspec.json.Decoder(_Person).decode
    for row, text in enumerate(file.annotations):
        try:
            person = decode(text)
        except msgspec.ValidationError as error:
            raise ValueError(f"{where}: person {row} of 'annotations': {error}") from None
        if person.keypoints and len(person.keypoints) != 3 * len(skeleton):
            raise ValueError(
                f"{where} has {len(person.keypoints) / 3:g} joints per person and skeleton "
                f"'{skeleton.name}' has {len(skeleton)}; take dataset=custom or another skeleton"
            )
        ids[row] = person.id if isinstance(person.id, int) else -1
        place[row] = number.get(person.image_id, -1)
        if person.bbox:
            boxes[row] = person.bbox
        if person.keypoints and place[row] >= 0 and not person.iscrowd and person.area > 0:
            joints[row] = person.keypoints
        if person.iscrowd:
            place[row] = -1
    return place, boxes, joints.reshape(count, len(skeleton), 3), ids


def concatenate(*parts: Persons) -> Persons:
    """The persons of several lists as one, in order; what a list lacks, the whole lacks."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Persons)}
    full = {n: v for n, v in columns.items() if all(column is not None for column in v)}
    return Persons(**{name: np.concatenate(parts) for name, parts in full.items()})


def count(annotations: str | Path) -> tuple[int, int]:
    """Numbers of images, and of persons who are to be found: labelled and no crowd."""
    data = read_json(annotations, "annotations")
    if not isinstance(data, dict) or not data.get("images"):
        raise ValueError(f"{Path(annotations).absolute()} (from annotations) lists no 'images'")
    persons = [
        person
        for person in data.get("annotations") or ()
        if not person.get("iscrowd")
        and person.get("num_keypoints", any((person.get("keypoints") or ())[2::3]))
    ]
    return len(data["images"]), len(persons)
