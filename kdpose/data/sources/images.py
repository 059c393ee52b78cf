"""Image files as arrays of pixels."""

from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

JPEG = b"\xff\xd8"  # how one begins, b"\xff\xd9" is how it ends
_IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])
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
    breaks off, which a strict decoder will tell.
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


def read_image(path: Path, height: int | None = None) -> NDArray[np.uint8]:
    """Decode an image to ``(h, w, 3)`` RGB; EXIF rotation is ignored, as the annotations do.

    Args:
        path: of the file.
        height: see :func:`decode_jpeg`.

    Raises:
        ValueError: there is no image in the file.
    """
    try:
        data = path.read_bytes()
        if data[:2] == JPEG:
            try:
                return decode_jpeg(data, height)
            except ValueError:
                pass  # an odd JPEG, or a broken one: Pillow knows
        with Image.open(path) as file:
            return np.asarray(file.convert("RGB"))
    except OSError as error:
        raise ValueError(f"cannot read the image {path.absolute()}: {error}") from None


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
