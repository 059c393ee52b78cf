"""Pictures of every kind, read as a person would see them; the files that are meant by a source."""

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
_LONGEST = 32766  # pixels; OpenCV's warp takes no longer sides
# what Pillow's readers let through when a file is cut off or damaged
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def open_image(image: ImageLike) -> Image.Image:
    """An RGB picture as a person would see it.

    A photograph's EXIF rotation is applied, 16 bits are scaled to 8, transparency shows white.

    Args:
        image: a path, a Pillow image, or an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file is damaged or no picture, or too large: beyond Pillow's
            limit or 32766 pixels a side.
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
            f"it has {picture.width} x {picture.height} pixels, {_LONGEST} a side at most"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        return _eight_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits or of floats; the full scale is the one that the values fit."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    top = float(values.max(initial=0))
    scales = (1.0, 255.0, 65535.0) if picture.mode == "F" else (65535.0,)
    full = next((scale for scale in scales if top <= scale), top)
    return Image.fromarray((values.clip(0) * (255 / full)).round().astype(np.uint8))


class ImageFile(NamedTuple):
    """One picture of a source.

    Attributes:
        path: where it lies.
        image_id: what results call it.
        name: what files that are made of it are called, unique within the source.
    """

    path: Path
    image_id: int
    name: str


def find_images(source: str, images: str | None = None) -> list[ImageFile]:
    """The pictures that a source means, in order.

    Args:
        source: an image, a folder, a glob, a COCO annotation file, or ``-``: paths from standard
            input, one a line.
        images: folder of an annotation file's pictures; None looks beside the file, in a folder
            beside it named as its split, and in ``images``.

    Raises:
        FileNotFoundError: there is no such path, or the annotation file's pictures are not found.
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
    """Ids as COCO and CrowdPose name their files; where a name is no number, places in order."""
    if not paths:
        raise ValueError(f"no image in {where}: {', '.join(sorted(_SUFFIXES))} are read")
    stems = [path.stem for path in paths]
    if all(stem.isdecimal() for stem in stems) and len({int(s) for s in stems}) == len(stems):
        return _named((path, int(path.stem)) for path in paths)
    return _named((path, number) for number, path in enumerate(paths, start=1))


def _named(images: Iterable[tuple[Path, int]]) -> list[ImageFile]:
    """Made files are called as the images are, and by the id as well where two are called alike."""
    pairs = list(images)
    count = Counter(path.stem for path, _ in pairs)
    names = [p.stem if count[p.stem] == 1 else f"{p.stem}_{number}" for p, number in pairs]
    return [ImageFile(*pair, name) for pair, name in zip(pairs, names, strict=True)]


def _annotated(path: Path, images: str | None) -> list[ImageFile]:
    """The pictures that an annotation file lists, under the ids that it gives them."""
    content = read_json(path, "source")
    listed = content.get("images") if isinstance(content, dict) else None
    if not listed:
        raise ValueError(f"{path.absolute()} (from source) is no COCO file: it lists no 'images'")
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
