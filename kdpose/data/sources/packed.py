"""Person crops in one memory-mapped file, with all that the augmentation can reach.

A pack is a folder: ``pixels.bin`` (JPEG or raw crops end to end), ``index.npz`` (where each
person's lies, how large it is and which part of its image at which scale) and ``pack.json`` (what
it was made of and for).  Labels stay in the annotation file, whose rows the pack follows.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.data.annotations import Persons
from kdpose.data.sources.images import decode_jpeg
from kdpose.data.sources.stored_crops import StoredCrops, check_stored
from kdpose.data.transforms import (
    Augmentation,
    box_region,
    half_masks,
    joints_region,
)
from kdpose.skeletons.skeleton import Skeleton

FORMAT = 1
HALF_BODY_ZOOM = 2.0  # half bodies are stored for up to this many times the whole body's zoom


def default_folder(annotations: str | Path, size: tuple[int, int]) -> Path:
    """Where the pack of an annotation file lies unless another place is named."""
    path = Path(annotations)
    return path.with_name(f"{path.stem}_{size[0]}x{size[1]}.pack")


def reach(
    persons: Persons, skeleton: Skeleton, aspect: float, augmentation: Augmentation
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What training can show of each person.

    Args:
        persons: N of them.
        skeleton: tells the half bodies.
        aspect: width/height of the crops.
        augmentation: how far views are scaled and turned, and whether half bodies are shown.

    Returns:
        ``(N, 4)`` left, top, right, bottom in image pixels, of whole and half bodies at their
        largest and under every rotation; ``(N,)`` the width in image pixels of the smallest view,
        half bodies counted down to ``1 / HALF_BODY_ZOOM`` of the whole.
    """
    regions = [(*box_region(persons.box, aspect), np.ones(len(persons), bool))]
    if augmentation.half_body_probability > 0 and skeleton.upper_body:
        shown = (persons.visible > 0).sum(1, keepdims=True) > augmentation.half_body_joints
        halves = half_masks(persons.visible, skeleton)
        regions += [joints_region(persons.joints, half & shown, aspect) for half in halves]
    low = np.full((len(persons), 2), np.inf)
    high, smallest = -low, np.full(len(persons), np.inf)
    for center, size, valid in regions:
        half = _turned(size * (1 + augmentation.scale) / 2, min(90.0, 2 * augmentation.rotation))
        low = np.where(valid[:, None], np.minimum(low, center - half), low)
        high = np.where(valid[:, None], np.maximum(high, center + half), high)
        smallest = np.where(valid, np.minimum(smallest, size[:, 0]), smallest)
    smallest = np.maximum(smallest, regions[0][1][:, 0] / HALF_BODY_ZOOM)
    return np.hstack([low, high]), smallest * (1 - augmentation.scale)


def _turned(half: NDArray[np.floating[Any]], degrees: float) -> NDArray[np.float64]:
    """Half extents ``(N, 2)`` of the upright boxes around boxes turned by up to some angle."""
    limit = np.deg2rad(degrees)
    x, y = half[:, 0].astype(np.float64), half[:, 1].astype(np.float64)
    wide, high = np.minimum(np.arctan2(y, x), limit), np.minimum(np.arctan2(x, y), limit)
    return np.stack(
        [x * np.cos(wide) + y * np.sin(wide), x * np.sin(high) + y * np.cos(high)], axis=1
    )


class Pack(StoredCrops):
    """A pack, read through the page cache, which all workers share.

    Args:
        folder: as :mod:`kdpose.pack` wrote it.
        key: config key that it comes from, for errors.

    Raises:
        FileNotFoundError: the folder has no complete pack.
        ValueError: it has another version's format.
    """

    key = "data.pack"

    def __init__(self, folder: str | Path, key: str = "data.pack") -> None:
        self.folder = Path(folder).absolute()
        self.place = str(self.folder)
        if not (self.folder / "pack.json").is_file():
            raise FileNotFoundError(
                f"no pack at {self.folder} (from {key}); `kdpose pack` makes one"
            )
        self.about: dict[str, Any] = json.loads((self.folder / "pack.json").read_text())
        if self.about["format"] != FORMAT:
            raise ValueError(
                f"{self.folder} (from {key}) has format {self.about['format']} and this version "
                f"reads {FORMAT}: write it again with `kdpose pack`"
            )
        try:
            with np.load(self.folder / "index.npz", allow_pickle=False) as index:
                self.start, self.extent = index["start"], index["extent"]
                self._frame, self.length = index["frame"], index["length"]
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{self.folder / 'index.npz'} (from {key}) is not an index of a pack "
                f"({type(error).__name__}): write it again with `kdpose pack`"
            ) from None
        self._bytes = np.memmap(self.folder / "pixels.bin", np.uint8, mode="r")
        self._jpeg = self.about["encoding"] == "jpeg"

    def __reduce__(self) -> tuple[type["Pack"], tuple[Path]]:
        """Another process opens the file itself."""
        return Pack, (self.folder,)

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.start)

    @property
    def raw_bytes(self) -> int:
        """Bytes of all crops as pixels."""
        return 3 * int(self.extent.prod(1, dtype=np.int64).sum())

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        """Of :class:`kdpose.data.dataset.Pixels`: a person's crop, RGB; not to be written to.

        Raises:
            UnreadableImage: the image could not be read when the pack was written.
        """
        data = self.stored(row)
        check_stored(data, row, self.place)
        if self._jpeg:
            return decode_jpeg(data.data, height)
        width, height = self.extent[row]
        return data.reshape(height, width, 3)

    def stored(self, row: int) -> NDArray[np.uint8]:
        """A person's crop as its bytes in the file."""
        start = self.start[row]
        data: NDArray[np.uint8] = self._bytes[start : start + self.length[row]]
        return data

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)`` of :class:`kdpose.data.dataset.Pixels`."""
        return self._frame[rows]
