"""The images and persons of an annotation file as arrays, as the file has them."""

import logging
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kdpose.runtime import categories
from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.runtime.files import check_file
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


class PersonTable(NamedTuple):
    """I images and N persons.

    Attributes:
        ids: ``(I,)`` of the images.
        names: ``(I,)`` file names.
        size: ``(I, 2)`` width and height, pixels.
        place: ``(N,)`` each person's image, -1 for none and for crowds.
        boxes: ``(N, 4)`` x, y, width, height; NaN for none.
        joints: ``(N, K, 3)``, zeros for those without an image or a size.
        number: ``(N,)`` ids of the persons, -1 for none.
        category: ``(N,)`` ids of their categories, -1 for none; other categories have no image.
    """

    ids: NDArray[np.int64]
    names: NDArray[np.str_]
    size: NDArray[np.float64]
    place: NDArray[np.int64]
    boxes: NDArray[np.float64]
    joints: NDArray[np.float32]
    number: NDArray[np.int64]
    category: NDArray[np.int64]


class _Image(msgspec.Struct):
    id: int
    file_name: str
    width: float
    height: float


class _Person(msgspec.Struct):
    image_id: int
    id: int | str = -1
    category_id: Any = None
    bbox: list[float] | None = None
    keypoints: list[float] | None = None
    iscrowd: float | bool = 0
    area: float = 1


class _File(msgspec.Struct):
    """What is read of a file; persons one by one, or a million would fill gigabytes."""

    images: list[_Image]
    annotations: list[msgspec.Raw]
    categories: Any = None


class _ParsedFile(msgspec.Struct):
    images: list[_Image]
    annotations: list[Any]
    categories: Any = None


def read_table(annotations: Annotations, skeleton: Skeleton, key: str, where: str) -> PersonTable:
    """Read the persons of a file, or take them from a parsed one.

    A file that is not parsed yet is mapped and never held as a whole.

    Args:
        annotations: COCO-keypoints JSON.
        skeleton: its number of joints is the file's.
        key: config key of the path, for errors.
        where: the file, for errors.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not a COCO-keypoints file, or its joints do not fit the skeleton.
    """
    try:
        if isinstance(annotations, AnnotationFile):
            parsed = msgspec.convert(annotations.content, _ParsedFile)
            people = _decoded(parsed.annotations, lambda one: msgspec.convert(one, _Person), where)
            return _filled(parsed, people, skeleton, where)
        file = msgspec.json.decode(_mapped(check_file(annotations, key)), type=_File)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{where} is not a COCO-keypoints file: it needs 'images' and 'annotations': {error}"
        ) from None
    except msgspec.DecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    people = _decoded(file.annotations, msgspec.json.Decoder(_Person).decode, where)
    return _filled(file, people, skeleton, where)


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file's text: mapped, it takes no memory of its own."""
    with path.open("rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0  # and cannot be mapped
        return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _decoded(
    entries: Iterable[Any], decode: Callable[[Any], _Person], where: str
) -> Iterable[_Person]:
    for row, entry in enumerate(entries):
        try:
            yield decode(entry)
        except msgspec.ValidationError as error:
            raise ValueError(f"{where}: person {row} of 'annotations': {error}") from None


def _filled(
    file: _File | _ParsedFile, people: Iterable[_Person], skeleton: Skeleton, where: str
) -> PersonTable:
    images, count = file.images, len(file.annotations)
    chosen, others = categories.people(file.categories), Counter[Any]()
    number = {image.id: place for place, image in enumerate(images)}
    place = np.full(count, -1, dtype=np.int64)
    boxes = np.full((count, 4), np.nan)
    joints = np.zeros((count, 3 * len(skeleton)), dtype=np.float32)
    ids, category = np.full((2, count), -1, dtype=np.int64)
    for row, person in enumerate(people):
        if not chosen.has_id(kind := categories.plain_id(person.category_id)):
            others[kind] += bool(person.keypoints)
            continue
        category[row] = kind if isinstance(kind, int) else -1
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
    if left_out := categories.told(chosen.told(others)):
        _log.warning("%s: %s", where, left_out)
    return PersonTable(
        ids=np.array([image.id for image in images], dtype=np.int64),
        names=np.array([image.file_name for image in images]),
        size=np.array([(image.width, image.height) for image in images]).reshape(-1, 2),
        place=place,
        boxes=boxes,
        joints=joints.reshape(count, len(skeleton), 3),
        number=ids,
        category=category,
    )
