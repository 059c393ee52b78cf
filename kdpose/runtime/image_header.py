"""Image files before their pixels are read: whether they are files, how large, how turned."""

import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import Image

# what is read; others, such as EPS, would start a program
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "AVIF", "PPM", "JPEG2000", "ICO")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".jp2")
_OTHERS = (
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".svg",
    ".psd",
    ".dng",
    ".cr2",
    ".nef",
    ".arw",
    ".jfif",
)
_ORIENTATION = 274  # EXIF's tag
QUARTERS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_MOST_BYTES = 2**29  # of a file


class UnreadableImage(OSError, ValueError):
    """A file that is damaged, not an image, or too large; the message names it."""


def check_regular(path: Path) -> None:
    """Refuse pipes, devices, folders, loops of links, and files of more than 512 MiB.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: it is something else than a file, or too large.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path.absolute()}") from None
    except (OSError, ValueError) as error:  # a name that cannot be one has a NUL in it
        raise UnreadableImage(f"cannot read the image {path.absolute()}: {error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableImage(f"cannot read the image {path.absolute()}: it is not a file")
    if found.st_size > _MOST_BYTES:
        raise UnreadableImage(
            f"cannot read the image {path.absolute()}: it has {found.st_size / 2**20:.0f} MiB, "
            f"the limit is {_MOST_BYTES // 2**20}"
        )


@cache
def _formats() -> tuple[str, ...]:
    """Those of :data:`_FORMATS` that this Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_header(path: Path) -> Image.Image:
    """An image whose pixels are not read yet, to be used in ``with``.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: it is not an image.
    """
    check_regular(path)
    try:
        return Image.open(path, formats=_formats())
    except Exception as error:  # decoders of damaged files raise anything
        raise UnreadableImage(f"cannot read the image {path.absolute()}: {error}") from None


def orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 (as stored) where there is none or it cannot be read."""
    try:
        value = picture.getexif().get(_ORIENTATION)
    except Exception:  # whatever Pillow's parser stumbles over
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def stored_size(path: Path) -> tuple[int, int]:
    """Width and height of the stored pixels, from the file's header.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: it is not an image.
    """
    with open_header(path) as file:
        return file.size


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of a photograph as a viewer shows it, turned by EXIF, from its header.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: it is not an image.
    """
    with open_header(path) as file:
        width, height = file.size
        return (height, width) if orientation(file) in QUARTERS else (width, height)


def pictures(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images among files, sorted by path, and those of formats that are not read."""
    listed = sorted(paths)
    images = [path for path in listed if path.suffix.lower() in SUFFIXES]
    return images, [path for path in listed if path.suffix.lower() in _OTHERS]
