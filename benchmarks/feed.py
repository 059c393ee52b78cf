"""``what=feed``: how many training samples one core makes a second, from files and from packs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.usual import MEAN, STD, UsualDataset
from kdpose.codecs.simcc import SimCC
from kdpose.data.annotations import Persons, load_persons
from kdpose.data.dataset import Pixels, PoseDataset, check_images, collate
from kdpose.data.sources.device_crop import SourceDataset
from kdpose.data.sources.images import decode_jpeg
from kdpose.data.sources.packed import Pack
from kdpose.data.sources.packing import write_pack
from kdpose.data.sources.resident import Resident, RowDataset
from kdpose.data.transforms import Augmentation
from kdpose.evaluation.timing import Case
from kdpose.skeletons.skeleton import Skeleton

USUAL = "usual pipeline"
LIMITS = {"files": "decoding files", "JPEG pack": "decoding the pack", "raw pack": "copying"}

Batches = DataLoader[Any]


def cases(
    train: Mapping[str, str],
    skeleton: Skeleton,
    codec: SimCC,
    augmentation: Augmentation,
    persons: int,
    batch_size: int,
    scratch: Path,
) -> list[Case]:
    """The usual pipeline, ours from files and packs, and what limits them.

    All run in this process, without workers, so that the clock counts a core's work, and in one
    order, drawn at random.

    Args:
        train: ``annotations`` and ``images`` of the split that is read.
        skeleton: of its persons.
        codec: tells the input size and encodes targets.
        augmentation: of training.
        persons: how many, spread evenly over the split; at most all.
        batch_size: persons at once.
        scratch: folder for the packs; they are written here.
    """
    everyone = load_persons(train["annotations"], skeleton, "dataset.train.annotations")
    images = Path(train["images"])
    feed = _Feed(_some(everyone, persons), images, skeleton, codec, augmentation, batch_size)
    check_images(feed.persons, images, "dataset.train.images")
    jpeg, raw = feed.pack(scratch, "jpeg"), feed.pack(scratch, "raw")
    return [
        Case(USUAL, feed.usual(), None, LIMITS["files"]),
        *feed.ours("files", images),
        *feed.ours("JPEG pack", jpeg),
        *feed.ours("raw pack", raw),
        Case("resident", feed.resident(raw), USUAL, LIMITS["raw pack"]),
        *feed.limits(jpeg, raw),
    ]


@dataclass(frozen=True)
class _Feed:
    """Persons, and how their crops are made."""

    persons: Persons
    images: Path
    skeleton: Skeleton
    codec: SimCC
    augmentation: Augmentation
    batch_size: int

    def pack(self, scratch: Path, encoding: Literal["jpeg", "raw"]) -> Pack:
        return write_pack(
            scratch / encoding,
            self.persons,
            self.images,
            self.skeleton,
            self.codec.input_size,
            self.augmentation,
            encoding=encoding,
        )

    def data(self, pixels: Path | Pack) -> PoseDataset:
        size, augmentation = self.codec.input_size, self.augmentation
        return PoseDataset(self.persons, pixels, self.skeleton, size, augmentation=augmentation)

    def batches(
        self, dataset: Dataset[Any], stack: Callable[[Any], Any] | None = collate
    ) -> Batches:
        order = np.random.default_rng(0).permutation(len(self.persons)).tolist()
        return DataLoader(dataset, self.batch_size, sampler=order, collate_fn=stack)

    def usual(self) -> Callable[[], int]:
        size, ratio = self.codec.input_size, self.codec.split_ratio
        how = (self.skeleton, size, self.augmentation, ratio)
        return _all(self.batches(UsualDataset(self.persons, self.images, *how), None))

    def ours(self, name: str, pixels: Path | Pack) -> list[Case]:
        """How far the host goes with a source of pixels.

        ``crops`` are what it hands over where it cuts them, ``sources`` what it does where the
        device cuts them; ``all here`` goes on to floats and targets as the usual pipeline does.
        """
        crops = self.batches(self.data(pixels))
        runs = {
            "crops": _all(crops),
            "sources": _all(self.batches(SourceDataset(self.data(pixels)))),
            "all here": _finished(crops, self.codec),
        }
        return [Case(f"{name}: {k}", run, USUAL, LIMITS[name]) for k, run in runs.items()]

    def resident(self, pack: Pack) -> Callable[[], int]:
        """Crops cut where the pack's pixels live."""
        return _resident(self.batches(RowDataset(len(self.persons))), self.data(pack))

    def limits(self, jpeg: Pack, raw: Pack) -> list[Case]:
        """What limits each source of pixels."""
        files = [(self.images / name).read_bytes() for name in self.persons.files]
        stored = [jpeg.stored(row).tobytes() for row in range(len(jpeg))]
        return [
            Case(LIMITS["files"], _decoding(files, self.data(self.images))),
            Case(LIMITS["JPEG pack"], _decoding(stored, self.data(jpeg))),
            Case(LIMITS["raw pack"], _copying(raw)),
        ]


def _some(persons: Persons, count: int) -> Persons:
    """Persons spread evenly over a split."""
    return persons[np.linspace(0, len(persons) - 1, min(count, len(persons))).round().astype(int)]


def _all(batches: Batches) -> Callable[[], int]:
    def run() -> int:
        for _ in batches:
            pass
        return len(batches.sampler)  # type: ignore[arg-type]  # a list

    return run


def _finished(batches: Batches, codec: SimCC) -> Callable[[], int]:
    """As far as the usual pipeline goes, with the device's share of the work done here."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def run() -> int:
        for batch in batches:
            batch.image.float().sub_(mean).div_(std)
            codec.encode(batch.joints, batch.visible)
        return len(batches.sampler)  # type: ignore[arg-type]  # a list

    return run


def _resident(batches: Batches, data: PoseDataset) -> Callable[[], int]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resident = Resident(data, device)

    def run() -> int:
        for batch in batches:
            resident(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return len(data)

    return run


class _Asked:
    """Pixels that remember down to which row each person's were asked for."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels, self.frame = pixels, pixels.frame
        self.heights: list[int | None] = []

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        self.heights.append(height)
        return self.pixels.read(row, height)


def _decoding(files: Sequence[bytes], data: PoseDataset) -> Callable[[], int]:
    """Decoding alone, as far down as the crops need."""
    asked = data.pixels = _Asked(data.pixels)
    data.__getitems__(range(len(data)))

    def run() -> int:
        for file, height in zip(files, asked.heights, strict=True):
            decode_jpeg(file, height)
        return len(files)

    return run


def _copying(pack: Pack) -> Callable[[], int]:
    """Moving the crops' bytes once, at the memory's speed."""

    def run() -> int:
        for row in range(len(pack)):
            pack.read(row).copy()
        return len(pack)

    return run
