"""Image files as pixels: the stored ones where annotations count them, upright elsewhere."""

import struct
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
JPEG = b"\xff\xd8"  # how one begins, b"\xff\xd9" is how it ends
_IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
_LONGEST = 32766  # pixels; the limit of OpenCV's warp
# raised by Pillow's readers for truncated or damaged files
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_SPARE = 16  # further rows, so that the wanted ones do not depend on where decoding ends


def decode_jpeg(data: bytes | memoryview, height: int | None = None) -> NDArray[np.uint8]:
    """``(h, w, 3)`` RGB of a JPEG, bit for bit what Pillow decodes, in two thirds of the time.

    Nearly all of that goes into reading the code bit by bit from the top, and what lies below the
    rows that a crop shows need not be read.

    Args:
        data: the file.
        height: how many of the first rows are wanted; the others may be left out.

    Raises:
        ValueError: it is no JPEG, or a broken one.
    """
    shorter = None if height is None else _shortened(data, height + _SPARE)
    if shorter is None:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    # not strict: that there is code left is the intention
    return np.asarray(simplejpeg.decode_jpeg(shorter, "RGB", strict=False))


def _shortened(data: bytes | memoryview, height: int) -> bytearray | None:
    """The file with a smaller height in its header, at which a decoder stops.

    None where it is no higher than that, is progressive (its code is not in the rows' order), or
    breaks off, which a strict decoder reports.
    """
    view = memoryview(data)
    place, end = 2, len(view)
    if bytes(view[end - 2 :]) != b"\xff\xd9":
        return None
    while place + 9 < end and view[place] == 0xFF:
        if view[place + 1] in (0xC0, 0xC1):  # of a frame that is coded row after row
            where = slice(place + 5, place + 7)
            if height >= int.from_bytes(view[where], "big"):
                return None
            shorter = bytearray(view)
            shorter[where] = height.to_bytes(2, "big")
            return shorter
        if 0xC2 <= view[place + 1] <= 0xCF and view[place + 1] != 0xC4:  # of another kind of frame
            return None
        place += 2 + int.from_bytes(view[place + 2 : place + 4], "big")
    return None


class UnreadableImage(OSError, ValueError):
    """A file that is damaged, not an image, or too large; the message names it."""


def read_image(path: Path, height: int | None = None) -> NDArray[np.uint8]:
    """The stored pixels ``(h, w, 3)`` of an annotated image, RGB, see :func:`open_image`.

    Args:
        path: of the file.
        height: see :func:`decode_jpeg`.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: there is no image in the file.
    """
    try:
        data = path.read_bytes()
        if data[:2] == JPEG:
            return decode_jpeg(data, height)
    except (OSError, ValueError):
        pass  # an odd JPEG, or a broken one: Pillow knows
    return np.asarray(open_image(path, upright=False))


def open_image(image: ImageLike, upright: bool = True) -> Image.Image:
    """An RGB picture: 16 bits are scaled to 8, transparency shows white.

    Annotations count stored pixels, so an annotated image is not turned. A photograph without
    annotations is turned upright by its EXIF orientation, as a person sees it.

    Args:
        image: a path, a Pillow image, or an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.
        upright: apply the EXIF orientation.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: the file is damaged, not a picture, or too large: beyond Pillow's limit or
            32766 pixels per side.
    """
    if isinstance(image, np.ndarray):
        return _rgb(Image.fromarray(image), upright)
    if isinstance(image, Image.Image):
        return _rgb(image, upright)
    try:
        with Image.open(image) as file:
            return _rgb(file, upright)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {Path(image).absolute()}") from None
    except _BROKEN as error:
        raise UnreadableImage(f"cannot read the image {Path(image).absolute()}: {error}") from None


def _rgb(picture: Image.Image, upright: bool) -> Image.Image:
    if max(picture.size) > _LONGEST:
        raise UnreadableImage(
            f"it has {picture.width} x {picture.height} pixels; the limit is {_LONGEST} per side"
        )
    if upright:
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


class ImageFiles:
    """The image of each person.

    Args:
        names: ``(N,)`` file name of each person's image.
        folder: where they lie.
        cache_images: how many decoded images each process keeps, the first it opens; for data
            that fits the memory and is shown many times.
    """

    def __init__(self, names: NDArray[np.str_], folder: str | Path, cache_images: int = 0) -> None:
        self.names = names
        self.folder = Path(folder)
        self.cache_images = cache_images
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self._last: tuple[str, float, NDArray[np.uint8]] = ("", 0, np.empty((0, 0, 3), np.uint8))

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        """The pixels ``(h, w, 3)`` that show a person; not to be written to.

        Args:
            row: of the person.
            height: how many of the first rows are wanted; the others may be left out.
        """
        name = str(self.names[row])
        if name in self._kept:
            return self._kept[name]
        keep = len(self._kept) < self.cache_images
        wanted = np.inf if keep or height is None else height
        last, there, image = self._last  # persons of one image often follow each other
        if name != last or there < wanted:
            image = read_image(self.folder / name, None if keep else height)
            self._last = (name, wanted, image)
        if keep:
            self._kept[name] = image
        return image

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)`` of :class:`kdpose.data.dataset.Pixels`: sources are the images themselves."""
        return np.broadcast_to(_IDENTITY, (len(rows), 4))
