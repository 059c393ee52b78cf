"""The image files of a source."""

import glob
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kdpose.data.annotations import read_json

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class ImageFile(NamedTuple):
    """One picture of a source.

    Attributes:
        path: of the file.
        image_id: its id in results.
        name: stem of the output files, unique within the source.
    """

    path: Path
    image_id: int
    name: str


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
    if path.is_dir():
        found = (p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        return _numbered(sorted(found), f"{path.absolute()} (from source)")
    if not path.exists() and glob.has_magic(source):
        matches = (Path(p) for p in glob.glob(source, recursive=True))
        found = (p for p in matches if p.suffix.lower() in _SUFFIXES)
        return _numbered(sorted(found), f"{path.absolute()} (from source)")
    if not path.exists():
        raise FileNotFoundError(f"no image or folder at {path.absolute()} (from source)")
    return _numbered([path], source)


def _numbered(paths: list[Path], where: str) -> list[ImageFile]:
    """Ids from file names, as in COCO and CrowdPose; positions if a name is not a number."""
    if not paths:
        raise ValueError(f"no image in {where}: supported are {', '.join(sorted(_SUFFIXES))}")
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
    content = read_json(path, "source")
    listed = content.get("images") if isinstance(content, dict) else None
    if not listed:
        raise ValueError(f"{path.absolute()} (from source) is not a COCO file: it has no 'images'")
    root, split = path.absolute().parent.parent, path.stem.split("_")[-1]
    usual = [path.absolute().parent, root / split, root / "images", root / "images" / split, root]
    places = usual if images is None else [Path(images).absolute()]
    first = str(listed[0]["file_name"])
    folder = next((place for place in places if (place / first).is_file()), None)
    if folder is None:
        raise FileNotFoundError(
            f"no {first} of {path.absolute()} (from source) in "
            f"{', '.join(map(str, places))}: set images=FOLDER"
        )
    return _named((folder / str(i["file_name"]), int(i["id"])) for i in listed)
