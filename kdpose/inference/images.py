"""Read pictures of every kind as a person would see them, and list the files of a source."""

import glob
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kdpose.data.annotations import read_json

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_LONGEST = 32766  # pixels; the limit of OpenCV's warp
# raised by Pillow's readers for truncated or damaged files
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def open_image(image: ImageLike) -> Image.Image:
    """An RGB picture as a person would see it.

    A photograph's EXIF rotation is applied, 16 bits are scaled to 8, transparency shows white.

    Args:
        image: a path, a Pillow image, or an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: the file is damaged, not a picture, or too large: beyond Pillow's limit or
            32766 pixels per side.
    """
    if isinstance(image, np.ndarray):
        return _rgb(Image.fromarray(image))
    if isinstance(image, Image.Image):
        return _rgb(image)
    try:
        with Image.open(image) as file:
            return _rgb(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {Path(image).absolute()}") from None
    except _BROKEN as error:
        raise OSError(f"{Path(image).absolute()} cannot be read: {error}") from error


def _rgb(picture: Image.Image) -> Image.Image:
    if max(picture.size) > _LONGEST:
        raise OSError(
            f"it has {picture.width} x {picture.height} pixels; the limit is {_LONGEST} per side"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale grey values of 16 or 32 bits or of floats to 8 bits, by the range that they fit."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    top = float(values.max(initial=0))
    scales = (1.0, 255.0, 65535.0) if picture.mode == "F" else (65535.0,)
    full = next((scale for scale in scales if top <= scale), top)
    return Image.fromarray((values.clip(0) * (255 / full)).round().astype(np.uint8))


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
