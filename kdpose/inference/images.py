"""The image files of a source."""

import glob
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from kdpose.runtime.annotation_file import Tidied, check_lists
from kdpose.runtime.image_header import SUFFIXES, pictures, upright_size
from kdpose.runtime.json_text import read_json

_MEASURED = 200  # images whose headers are read
_UNSIZED = {"width": 0.1, "height": 0.1}
_log = logging.getLogger(__name__)


class ImageFile(NamedTuple):
    """One picture of a source.

    Attributes:
        path: of the file.
        image_id: its id in results.
        name: stem of the output files, unique within the source.
        size: width and height in the annotation file; None for photographs without annotations.
    """

    path: Path
    image_id: int
    name: str
    size: tuple[int, int] | None = None


def find_images(source: str, images: str | None = None) -> list[ImageFile]:
    """The pictures of a source, in order.

    Args:
        source: an image, a folder, a glob, a COCO annotation file, or ``-``: paths from standard
            input, one per line.
        images: folder of an annotation file's pictures; None looks beside the file, in a folder
            beside it named as its split, and in ``images``.

    Raises:
        FileNotFoundError: the path does not exist, or the annotation file's pictures are missing.
        ValueError: the source has no image.
    """
    if source == "-":
        paths = [Path(line.strip()) for line in sys.stdin if line.strip()]
        return _numbered(paths, "standard input (source=-)")
    path = Path(source)
    if path.suffix.lower() == ".json":
        return _annotated(path, images)
    where = f"{path.absolute()} (from source)"
    if path.is_dir():
        return _numbered(_readable(path.iterdir(), where), where)
    if not path.exists() and glob.has_magic(source):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))  # enters no loops
        return _numbered(_readable(found, where), where)
    if not path.exists():
        raise FileNotFoundError(f"no image or folder at {path.absolute()} (from source)")
    return _numbered([path], source)


def _readable(paths: Iterable[Path], where: str) -> list[Path]:
    """The images among files; pictures of other formats are named."""
    found, others = pictures(paths)
    if others:
        _log.warning(
            "%s: %d pictures are skipped, such as %s: convert them to JPEG or PNG",
            where,
            len(others),
            others[0].name,
        )
    return found


def _numbered(paths: list[Path], where: str) -> list[ImageFile]:
    """Ids from file names, as in COCO and CrowdPose; positions if a name is not a number."""
    if not paths:
        raise ValueError(f"no image in {where}: supported are {', '.join(sorted(SUFFIXES))}")
    stems = [path.stem for path in paths]
    if all(stem.isdecimal() for stem in stems) and len({int(s) for s in stems}) == len(stems):
        return _named((path, int(path.stem)) for path in paths)
    return _named((path, number) for number, path in enumerate(paths, start=1))


def _named(images: Iterable[tuple[Path, int]]) -> list[ImageFile]:
    """Name output files like the images, with the id added where two names are equal."""
    pairs = list(images)
    count = Counter(path.stem for path, _ in pairs)
    names = [p.stem if count[p.stem] == 1 else f"{p.stem}_{number}" for p, number in pairs]
    return [ImageFile(*pair, name) for pair, name in zip(pairs, names, strict=True)]


def _annotated(path: Path, images: str | None) -> list[ImageFile]:
    """The pictures that an annotation file lists, with its ids."""
    where = f"{path.absolute()} (from source)"
    listed = check_lists(read_json(path, "source"), where).get("images")
    if not listed:
        raise ValueError(f"{where} is not a COCO file: it has no 'images'")
    root, split = path.absolute().parent.parent, path.stem.split("_")[-1]
    usual = [path.absolute().parent, root / split, root / "images", root / "images" / split, root]
    places = usual if images is None else [Path(images).absolute()]
    first = next(
        (str(i["file_name"]) for i in listed if isinstance(i, dict) and i.get("file_name")), ""
    )
    folder = next((place for place in places if first and (place / first).exists()), None)
    found = Tidied()  # which needs sizes, as this source does not
    found.add_images(
        ({**_UNSIZED, **_filled(i)} if isinstance(i, dict) else i for i in listed), None
    )
    found.check(where)
    if folder is None:
        raise FileNotFoundError(
            f"no {first} of {where} in {', '.join(map(str, places))}: set images=FOLDER"
        )
    named = _named((folder / image["file_name"], image["id"]) for image in found.images)
    sizes = [(round(image["width"]), round(image["height"])) for image in found.images]
    return [
        file._replace(size=None if 0 in size else size)
        for file, size in zip(named, sizes, strict=True)
    ]


def _filled(image: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in image.items() if value}


def known_sizes(images: Sequence[ImageFile]) -> dict[int, tuple[int, int]]:
    """Width and height by id: as annotated, else of some, as they will be read."""
    sizes = {image.image_id: image.size for image in images if image.size is not None}
    unknown = [image for image in images if image.size is None]
    for image in unknown[:: max(1, len(unknown) // _MEASURED)]:
        with suppress(OSError):
            sizes[image.image_id] = upright_size(image.path)
    return sizes
