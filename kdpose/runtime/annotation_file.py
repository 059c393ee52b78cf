"""A COCO-format annotation file, parsed once and handed to all that need it."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from kdpose.runtime.categories import of_people
from kdpose.runtime.files import check_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class AnnotationFile:
    """The parsed content of an annotation file.

    Attributes:
        path: of the file, absolute.
        content: the JSON object, of whose annotations only persons are kept, see
            :func:`kdpose.runtime.categories.people`.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(
        cls, path: str | Path, key: str = "annotations", category: str | int | None = None
    ) -> "AnnotationFile":
        """Parse a file.

        Args:
            path: of the file.
            key: config key that the path came from, for errors.
            category: the name or id of the only category whose annotations are persons.

        Raises:
            FileNotFoundError: the file is not there.
            ValueError: it is not a JSON object, or has no such category.
        """
        path = check_file(path, key).absolute()
        try:
            content = msgspec.json.decode(path.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} (from {key}) is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} (from {key}) is not an annotation file: it must be an object, "
                f"got a {type(content).__name__}"
            )
        content, left_out = of_people(content, category, f"{path} (from {key})")
        if left_out:
            _log.warning("%s (from %s): %s", path, key, left_out)
        return cls(path, content)

    @classmethod
    def of(cls, annotations: "Annotations", key: str = "annotations") -> "AnnotationFile":
        """The same if it is parsed already, see :meth:`read` otherwise."""
        return (
            annotations if isinstance(annotations, AnnotationFile) else cls.read(annotations, key)
        )

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
            and person.get("num_keypoints", any((person.get("keypoints") or ())[2::3]))
        ]
        return len(self.images()), len(persons)


Annotations = AnnotationFile | str | Path
