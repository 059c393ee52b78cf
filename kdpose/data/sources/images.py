"""Image files as pixels: the stored ones where annotations count them, upright elsewhere."""

from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from kdpose.runtime.image_header import (
    QUARTERS,
    UnreadableImage,
    check_regular,
    open_header,
    orientation,
)

ImageLike = str | Path | Image.Image | NDArray[np.uint8]
JPEG = b"\xff\xd8"  # how one begins, b"\xff\xd9" is how it ends
_IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
_LONGEST = 32766  # pixels; the limit of OpenCV's warp
MOST_PIXELS = 64_000_000  # so that an image and its copies take less than 1 GB
_WIDE = 4  # times as much memory do values of more than 8 bits take
_FLIP, _MIRROR = Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.FLIP_LEFT_RIGHT
_TURNS = {
    2: _MIRROR,
    3: Image.Transpose.ROTATE_180,
    4: _FLIP,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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


def read_image(
    path: Path, height: int | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The pixels ``(h, w, 3)`` of an annotated image, RGB, see :func:`open_image`.

    Args:
        path: of the file.
        height: see :func:`decode_jpeg`.
        size: see :func:`open_image`.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: there is no image in the file.
    """
    check_regular(path)
    try:
        data = path.read_bytes()
        if data[:2] == JPEG:
            stored = simplejpeg.decode_jpeg_header(data)[1::-1]
            if size in (None, stored) and _fits(stored):
                return decode_jpeg(data, height)
    except (OSError, ValueError):
        pass  # an odd JPEG, or a broken one: Pillow knows
    return np.asarray(open_image(path, upright=False, size=size))


def _fits(size: tuple[int, int]) -> bool:
    return max(size) <= _LONGEST and size[0] * size[1] <= MOST_PIXELS


def open_image(
    image: ImageLike, upright: bool = True, size: tuple[int, int] | None = None
) -> Image.Image:
    """An RGB picture: 16 bits are scaled to 8, transparency shows white.

    A photograph without annotations is turned upright by its EXIF orientation, as a person sees it.
    Of an annotated one the annotated size decides: an image stored on its side and annotated
    upright is turned, every other is read as it is stored.

    Args:
        image: a path, a Pillow image, or an array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``.
        upright: apply the EXIF orientation.
        size: width and height in the annotation file, which decide instead of ``upright``.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: the file is damaged, not a picture, or too large: more than 32766 pixels
            per side, or more than :data:`MOST_PIXELS` in all.
    """
    if isinstance(image, np.ndarray):
        return _rgb(Image.fromarray(image), 1)
    if isinstance(image, Image.Image):
        return _rgb(image, orientation(image) if upright else 1)
    try:
        with open_header(Path(image)) as file:
            _check_pixels(file)
            turn = orientation(file)
            if size is not None:
                upright = turn in QUARTERS and file.size != size and file.size[::-1] == size
            return _rgb(file, turn if upright else 1)
    except (FileNotFoundError, UnreadableImage) as error:
        if "cannot read" in str(error) or isinstance(error, FileNotFoundError):
            raise
        reason: Exception = error
    except Exception as error:  # decoders of damaged files raise anything
        reason = error
    raise UnreadableImage(f"cannot read the image {Path(image).absolute()}: {reason}")


def _check_pixels(picture: Image.Image) -> None:
    """Refuse what would fill the memory, before its pixels are read."""
    limit = MOST_PIXELS // (_WIDE if picture.mode.startswith(("I", "F")) else 1)
    if picture.width * picture.height > limit:
        raise UnreadableImage(
            f"it has {picture.width} x {picture.height} pixels; the limit is {limit:,} in all"
        )


def _rgb(picture: Image.Image, turn: int) -> Image.Image:
    """In RGB, turned as EXIF's orientation says."""
    if max(picture.size) > _LONGEST:
        raise UnreadableImage(
            f"it has {picture.width} x {picture.height} pixels; the limit is {_LONGEST} per side"
        )
    wide = picture.mode.startswith(("I", "F"))
    if wide:
        picture = _eight_bits(picture)
    elif picture.has_transparency_data:
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(picture.convert("RGBA"))
        picture = paper
    picture = picture.convert("RGB")
    picture = picture if turn == 1 else picture.transpose(_TURNS[turn])
    picture.info = {}  # or its EXIF would turn it again when it is opened once more
    return picture


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
        sizes: ``(N, 2)`` width and height in the annotation file, see :func:`open_image`.
    """

    def __init__(
        self,
        names: NDArray[np.str_],
        folder: str | Path,
        cache_images: int = 0,
        sizes: NDArray[np.float32] | None = None,
    ) -> None:
        self.names = names
        self.sizes = None if sizes is None else np.rint(sizes).astype(np.int64)
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
            size = None if self.sizes is None else tuple(self.sizes[row].tolist())
            image = read_image(self.folder / name, None if keep else height, size)
            self._last = (name, wanted, image)
        if keep:
            self._kept[name] = image
        return image

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)`` of :class:`kdpose.data.dataset.Pixels`: sources are the images themselves."""
        return np.broadcast_to(_IDENTITY, (len(rows), 4))
