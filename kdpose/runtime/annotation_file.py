"""A COCO-format annotation file, parsed and put in order once, and handed to all that need it."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import inf
from pathlib import Path
from typing import Any

from kdpose.runtime.categories import of_people
from kdpose.runtime.coco_schema import Entry, Misfit, Notes, image_entry, person_entry, shown
from kdpose.runtime.files import check_file
from kdpose.runtime.json_text import parse_json

_log = logging.getLogger(__name__)


@dataclass
class Tidied:
    """The entries of an annotation file, see :mod:`kdpose.runtime.coco_schema`.

    Attributes:
        images: those that can be used.
        persons: those that can be used, including persons of unlisted images.
        bad_images: a line for each of the others, which names the entry.
        bad_persons: the same.
        notes: what was derived, and how often.
        pictured: the image files will be read, so their names and sizes must be there.
    """

    images: list[Entry] = field(default_factory=list)
    persons: list[Entry] = field(default_factory=list)
    bad_images: list[str] = field(default_factory=list)
    bad_persons: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    pictured: bool = True

    def add_images(self, entries: Iterable[Any], folder: Path | None) -> None:
        """Sort images; ``folder`` is that of the image files, for sizes that entries lack."""
        for row, entry in enumerate(entries):
            try:
                self.images.append(image_entry(entry, folder, self.notes, self.pictured))
            except Misfit as error:
                self.bad_images.append(f"{_named(entry, row, 'image')} {error}")

    @cached_property
    def sizes(self) -> dict[int, tuple[float, float]]:
        """Width and height of each image, by id; infinite where they do not matter."""
        if not self.pictured:
            return dict.fromkeys((image["id"] for image in self.images), (inf, inf))
        return {image["id"]: (image["width"], image["height"]) for image in self.images}

    def person(self, entry: Any, row: int) -> Entry | None:
        """A person in order; None, and a line in ``bad_persons``, if it cannot be used."""
        try:
            return person_entry(entry, self.sizes, self.notes)
        except Misfit as error:
            self.bad_persons.append(f"{_named(entry, row, 'annotation')} {error}")
            return None

    def check(self, where: str) -> None:
        """Refuse a file with entries that cannot be used, else say once what was derived.

        Args:
            where: the file and its key.

        Raises:
            ValueError: the first of them, and how many there are.
        """
        for bad in (self.bad_images, self.bad_persons):
            if bad:
                more = f" (and {len(bad) - 1} more; `kdpose doctor` lists them)" * (len(bad) > 1)
                raise ValueError(f"{where}: {bad[0]}{more}")
        for note, count in self.notes.items():
            if count:
                say_once(f"{where}: {count} {note}")


@cache
def say_once(line: str) -> None:
    """Warn, the first time that a process has to say it."""
    _log.warning("%s", line)


def _named(entry: Any, row: int, kind: str) -> str:
    known = entry.get("id") if isinstance(entry, dict) else None
    return f"{kind} {shown(known)}" if known is not None else f"{kind} number {row}"


def tidied(content: dict[str, Any], folder: Path | None = None, pictured: bool = True) -> Tidied:
    """Put a file's entries in order.

    Args:
        content: of the file, whose ``images`` and ``annotations`` are lists or absent.
        folder: of the image files, for sizes that entries lack.
        pictured: see :class:`Tidied`.
    """
    found = Tidied(pictured=pictured)
    found.add_images(content.get("images") or (), folder)
    entries = enumerate(content.get("annotations") or ())
    found.persons = [p for row, entry in entries if (p := found.person(entry, row)) is not None]
    return found


def check_lists(content: Any, where: str) -> dict[str, Any]:
    """The content of an annotation file, if it looks like one.

    Raises:
        ValueError: it is not an object, or its lists are not lists.
    """
    if isinstance(content, list):
        raise ValueError(
            f"{where} is a list: of detections or results, not an annotation file, which is an "
            "object with 'images', 'annotations' and 'categories'"
        )
    if not isinstance(content, dict):
        raise ValueError(
            f"{where} is not an annotation file: it must be an object, "
            f"got a {type(content).__name__}"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key) or [], list):
            raise ValueError(f"{where}: '{key}' must be a list, got {shown(content[key])}")
    if not all(isinstance(category, dict) for category in content.get("categories") or ()):
        raise ValueError(f"{where}: 'categories' must be a list of objects")
    return content


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """The parsed content of an annotation file.

    Attributes:
        path: of the file, absolute.
        content: the JSON object, its entries as :mod:`kdpose.runtime.coco_schema` makes them, of
            whose annotations only persons are kept, see :func:`kdpose.runtime.categories.people`.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(
        cls,
        path: str | Path,
        key: str = "annotations",
        images: str | Path | None = None,
        pictured: bool = True,
        category: str | int | None = None,
    ) -> "AnnotationFile":
        """Parse a file.

        Args:
            path: of the file.
            key: config key that the path came from, for errors.
            images: folder of the image files, for sizes that the file lacks.
            pictured: see :class:`Tidied`.
            category: the name or id of the only category whose annotations are persons.

        Raises:
            FileNotFoundError: the file is not there.
            ValueError: it is not a JSON object, an entry cannot be used, or it has no such
                category.
        """
        path = check_file(path, key).absolute()
        where = f"{path} (from {key})"
        content = check_lists(parse_json(path.read_bytes(), where), where)
        content, left_out = of_people(content, category, where)
        if left_out:
            say_once(f"{where}: {left_out}")
        found = tidied(content, None if images is None else Path(images), pictured)
        found.check(where)
        return cls(path, {**content, "images": found.images, "annotations": found.persons})

    @classmethod
    def of(
        cls, annotations: "Annotations", key: str = "annotations", pictured: bool = True
    ) -> "AnnotationFile":
        """The same if it is parsed already, see :meth:`read` otherwise."""
        if isinstance(annotations, AnnotationFile):
            return annotations
        return cls.read(annotations, key, pictured=pictured)

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def images(self) -> list[dict[str, Any]]:
        """The entries of its images.

        Raises:
            ValueError: there are none.
        """
        images = self.content.get("images")
        if not images:
            raise ValueError(f"{self.path} (from annotations) lists no 'images'")
        return list(images)

    def counts(self) -> tuple[int, int]:
        """Numbers of images, and of persons who are to be found: labelled and no crowd.

        Raises:
            ValueError: there are no images.
        """
        persons = [
            person
            for person in self.content.get("annotations") or ()
            if not person.get("iscrowd")
            and person.get("keypoints")
            and person.get("num_keypoints", any((person.get("keypoints") or ())[2::3]))
        ]
        return len(self.images()), len(persons)


Annotations = AnnotationFile | str | Path
