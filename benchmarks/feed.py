"""``what=feed``: how many training samples one core makes a second, from files and from packs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    order, drawn at random.  ``crops`` are what the host hands over where it cuts them, ``sources``
    what it does where the device cuts them, ``all here`` goes on to floats and targets as the
    usual pipeline does; ``resident`` cuts where the pack's pixels live.

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
    chosen = _some(everyone, persons)
    images = Path(train["images"])
    check_images(chosen, images, "dataset.train.images")
    size = codec.input_size
    packs = {
        name: write_pack(
            scratch / name, chosen, images, skeleton, size, augmentation, encoding=name
        )
        for name in ("jpeg", "raw")
    }

    def data(pixels: Path | Pack) -> PoseDataset:
        return PoseDataset(chosen, pixels, skeleton, size, augmentation=augmentation)

    order = np.random.default_rng(0).permutation(len(chosen)).tolist()

    def batches(dataset: Dataset[Any], stack: Callable[[Any], Any] | None = collate) -> Batches:
        return DataLoader(dataset, batch_size, sampler=order, collate_fn=stack)

    usual = UsualDataset(chosen, images, skeleton, size, augmentation, codec.split_ratio)
    names: dict[str, Path | Pack] = {
        "files": images,
        "JPEG pack": packs["jpeg"],
        "raw pack": packs["raw"],
    }
    rows = [Case(USUAL, _all(batches(usual, None)), None, LIMITS["files"])]
    for name, pixels in names.items():
        crops = batches(data(pixels))
        runs = {
            "crops": _all(crops),
            "sources": _all(batches(SourceDataset(data(pixels)))),
            "all here": _finished(crops, codec),
        }
        rows += [Case(f"{name}: {k}", run, USUAL, LIMITS[name]) for k, run in runs.items()]
    numbers = batches(RowDataset(len(chosen)))
    stored = {
        "files": [(images / name).read_bytes() for name in chosen.files],
        "JPEG pack": [packs["jpeg"].stored(row).tobytes() for row in range(len(chosen))],
    }
    return [
        *rows,
        Case("resident", _resident(numbers, data(packs["raw"])), USUAL, LIMITS["raw pack"]),
        Case(LIMITS["files"], _decoding(stored["files"], data(images))),
        Case(LIMITS["JPEG pack"], _decoding(stored["JPEG pack"], data(packs["jpeg"]))),
        Case(LIMITS["raw pack"], _copying(packs["raw"])),
    ]


def _some(persons: Persons, count: int) -> Persons:
    """Persons spread evenly over a split."""
    return persons[np.linspace(0, len(persons) - 1, min(count, len(persons))).round().astype(int)]


def _all(batches: Batches) -> Callable[[], int]:
    def run() -> int:
        for _ in batches:
            pass
        return len(batches.sampler)  # type: ignore[arg-type]

    return run


def _finished(batches: Batches, codec: SimCC) -> Callable[[], int]:
    """As far as the usual pipeline goes, with the device's share of the work done here."""
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (MEAN, STD))

    def run() -> int:
        for batch in batches:
            batch.image.float().sub_(mean).div_(std)
            codec.encode(batch.joints, batch.visible)
        return len(batches.sampler)  # type: ignore[arg-type]

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
