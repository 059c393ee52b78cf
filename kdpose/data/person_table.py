"""The images and persons of an annotation file as arrays, as the file has them."""

import logging
import mmap
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

from kdpose.runtime import categories
from kdpose.runtime.annotation_file import AnnotationFile, Annotations, Tidied
from kdpose.runtime.coco_schema import Entry
from kdpose.runtime.files import check_file
from kdpose.runtime.json_text import plain_text
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
        left_out: how many persons are not to be used, by reason.
    """

    ids: NDArray[np.int64]
    names: NDArray[np.str_]
    size: NDArray[np.float64]
    place: NDArray[np.int64]
    boxes: NDArray[np.float64]
    joints: NDArray[np.float32]
    number: NDArray[np.int64]
    category: NDArray[np.int64]
    left_out: Counter[str]


class _Person(TypedDict, total=False):
    """What is read of a person; segmentations, the greater part of a file, are skipped."""

    image_id: Any
    id: Any
    bbox: Any
    keypoints: Any
    iscrowd: Any
    area: Any
    num_keypoints: Any
    category_id: Any


class _File(msgspec.Struct):
    """What is read of a file; persons one by one, or a million would fill gigabytes."""

    images: list[Any] | None = None
    annotations: list[msgspec.Raw] | None = None
    categories: Any = None


def read_table(
    annotations: Annotations,
    skeleton: Skeleton,
    key: str,
    where: str,
    images: str | Path | None = None,
) -> PersonTable:
    """Read the persons of a file, or take them from a parsed one.

    A file that is not parsed yet is mapped and never held as a whole.

    Args:
        annotations: COCO-keypoints JSON.
        skeleton: its number of joints is the file's.
        key: config key of the path, for errors.
        where: the file, for errors.
        images: folder of the image files, for sizes that the file lacks.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not a COCO-keypoints file, or its joints do not fit the skeleton.
    """
    if not isinstance(annotations, AnnotationFile):
        try:
            text = plain_text(memoryview(_mapped(check_file(annotations, key))))
            file = msgspec.json.decode(text, type=_File)
        except (msgspec.DecodeError, UnicodeDecodeError):  # or odd: the other reader says what
            annotations = AnnotationFile.read(annotations, key, images)
        else:
            return _decoded(file, skeleton, where, images)
    content = annotations.content
    found, persons = Tidied(images=content["images"]), content["annotations"]
    _check_lists(content["images"] or None, persons, where)
    chosen = categories.people(content.get("categories"))
    return _filled(found, persons, len(persons), chosen, skeleton, where)


def _decoded(file: _File, skeleton: Skeleton, where: str, images: str | Path | None) -> PersonTable:
    """The table of a file whose persons are not decoded yet."""
    _check_lists(file.images, file.annotations, where)
    found = Tidied()
    found.add_images(file.images or (), None if images is None else Path(images))
    entries = file.annotations or []
    chosen = categories.people(file.categories)
    people = _read(entries, found, chosen, where)
    return _filled(found, people, len(entries), chosen, skeleton, where)


def _check_lists(images: list[Any] | None, persons: list[Any] | None, where: str) -> None:
    if images is None or persons is None:
        raise ValueError(
            f"{where} is not a COCO-keypoints file: it needs 'images' and 'annotations'"
        )


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A file's text: mapped, it takes no memory of its own."""
    with path.open("rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0  # and cannot be mapped
        return b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read(
    entries: Sequence[msgspec.Raw], found: Tidied, chosen: categories.People, where: str
) -> Iterator[Entry]:
    """Persons, each decoded when it is its turn; at the end what was derived is said.

    Raises:
        ValueError: one of them, or an image, cannot be used.
    """
    decode = msgspec.json.Decoder(_Person).decode
    for row, entry in enumerate(entries):
        try:
            person: Any = decode(entry)
        except msgspec.ValidationError:
            person = msgspec.json.decode(entry)  # no object, as will be said
        known = found.person(person, row) if chosen.has(person) else person
        if known is not None:
            yield known
    found.check(where)


class _Columns:
    """What is read of N persons; see :class:`PersonTable`."""

    def __init__(self, count: int, skeleton: Skeleton, where: str) -> None:
        self.skeleton, self.where = skeleton, where
        self.place = np.full(count, -1, dtype=np.int64)
        self.boxes = np.full((count, 4), np.nan)
        self.joints = np.zeros((count, 3 * len(skeleton)), dtype=np.float32)
        self.number, self.category = np.full((2, count), -1, dtype=np.int64)
        self.left_out = Counter[str]()

    def put(self, row: int, person: Entry, kind: Any, place: int) -> None:
        """Write a person of a category into a row; ``place`` is that of the image, -1 for none."""
        keypoints, box, name = person.get("keypoints"), person.get("bbox"), person.get("id")
        self.category[row] = kind if isinstance(kind, int) else -1
        if keypoints and len(keypoints) != 3 * len(self.skeleton):
            raise ValueError(
                f"{self.where} has {len(keypoints) / 3:g} joints per person and skeleton "
                f"'{self.skeleton.name}' has {len(self.skeleton)}; take dataset=custom or another "
                "skeleton"
            )
        self.number[row] = name if isinstance(name, int) and abs(name) < 2**63 else -1
        if box:
            self.boxes[row] = box
        if place < 0:
            return  # which is said where files are read
        if person.get("iscrowd"):
            self.left_out["crowds"] += 1
            return
        self.place[row] = place
        if keypoints and person.get("area", 1) > 0:
            self.joints[row] = keypoints
        elif keypoints:
            self.left_out["with an area of 0"] += 1


def _filled(
    found: Tidied,
    people: Iterable[Entry],
    count: int,
    chosen: categories.People,
    skeleton: Skeleton,
    where: str,
) -> PersonTable:
    number = {image["id"]: place for place, image in enumerate(found.images)}
    columns, others = _Columns(count, skeleton, where), Counter[Any]()
    for row, person in enumerate(people):
        if chosen.has_id(kind := categories.category_id(person)):
            columns.put(row, person, kind, number.get(person["image_id"], -1))
        else:
            others[kind] += bool(person.get("keypoints"))
    if said := categories.told(chosen.told(others)):
        _log.warning("%s: %s", where, said)
    return PersonTable(
        ids=np.array([image["id"] for image in found.images], dtype=np.int64),
        names=np.array([image["file_name"] for image in found.images]),
        size=np.array([(i["width"], i["height"]) for i in found.images], float).reshape(-1, 2),
        place=columns.place,
        boxes=columns.boxes,
        joints=columns.joints.reshape(count, len(skeleton), 3),
        number=columns.number,
        category=columns.category,
        left_out=columns.left_out,
    )
