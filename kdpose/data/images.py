"""Image files as arrays of pixels."""

from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

_IDENTITY = np.array([1.0, 1.0, 0.0, 0.0])


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image to ``(h, w, 3)`` RGB; EXIF rotation is ignored, as the annotations do.

    Raises:
        ValueError: there is no image in the file.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8":
            try:  # bit for bit what Pillow decodes, in two thirds of the time
                return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
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
        self._last: tuple[str, NDArray[np.uint8] | None] = ("", None)

    def read(self, row: int) -> NDArray[np.uint8]:
        """The pixels ``(h, w, 3)`` that show a person; not to be written to."""
        name = str(self.names[row])
        image = self._last[1] if name == self._last[0] else self._kept.get(name)
        if image is None:
            image = read_image(self.folder / name)
            if len(self._kept) < self.cache_images:
                self._kept[name] = image
        self._last = (name, image)  # persons of one image often follow each other
        return image

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)`` of :class:`kdpose.data.dataset.Pixels`: sources are the images themselves."""
        return np.broadcast_to(_IDENTITY, (len(rows), 4))
