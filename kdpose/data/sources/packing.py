"""Cut a data set's person crops once and write them as a pack.

A crop holds what :func:`reach` says that training can show.  It has the image's own pixels unless
these are finer than the smallest view needs at the input size: it is then reduced to that by area
averages, which larger views show smoother than crops of the image itself, such as validation's.
"""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import simplejpeg
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from kdpose.cli import console
from kdpose.data.annotations import Persons, load_persons
from kdpose.data.dataset import check_images
from kdpose.data.one_category import take_category
from kdpose.data.sources.images import ImageFiles
from kdpose.data.sources.packed import FORMAT, HALF_BODY_ZOOM, Pack, default_folder, reach
from kdpose.data.transforms import Augmentation
from kdpose.runtime.image_header import UnreadableImage
from kdpose.runtime.provenance import code_version, sha256
from kdpose.runtime.signals import keep_worker
from kdpose.skeletons.skeleton import Skeleton

Encoding = Literal["jpeg", "raw"]
_NOTHING: NDArray[np.uint8] = np.empty(0, np.uint8)  # what is stored where an image cannot be read


class Crop(NamedTuple):
    """An encoded crop.

    Attributes:
        row: of the person.
        data: the bytes; none where the image cannot be read.
        size: width and height.
        frame: of :class:`kdpose.data.dataset.Pixels`.
        error: names the image that cannot be read.
    """

    row: int
    data: NDArray[np.uint8]
    size: tuple[int, int] = (1, 1)
    frame: tuple[float, float, float, float] = (1.0, 1.0, 0.0, 0.0)
    error: str | None = None


class _Cutter(Dataset[Crop]):
    """Encoded crops by row."""

    def __init__(
        self,
        images: ImageFiles,
        bounds: NDArray[np.float64],
        scale: NDArray[np.float64],
        encoding: Encoding,
        quality: int,
    ) -> None:
        self.images, self.bounds, self.scale = images, bounds, scale
        self.encoding, self.quality = encoding, quality

    def __getitem__(self, row: int) -> Crop:
        try:
            image = self.images.read(row)
        except UnreadableImage as error:
            return Crop(row, _NOTHING, error=str(error))
        limit = np.array(image.shape[1::-1])
        x1, y1 = np.clip(np.floor(self.bounds[row, :2]).astype(int), 0, limit - 1)
        x2, y2 = np.clip(np.ceil(self.bounds[row, 2:]).astype(int) + 1, (x1 + 1, y1 + 1), limit)
        crop = image[y1:y2, x1:x2]
        width, height = np.maximum(1, np.ceil(np.array([x2 - x1, y2 - y1]) * self.scale[row]))
        size = int(width), int(height)
        if self.scale[row] < 1:
            crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
        sx, sy = width / (x2 - x1), height / (y2 - y1)
        frame = (sx, sy, sx * (0.5 - x1) - 0.5, sy * (0.5 - y1) - 0.5)  # centres at integers
        return Crop(row, self._encode(np.ascontiguousarray(crop)), size, frame)

    def _encode(self, crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.encoding == "raw":
            return crop.reshape(-1)
        jpeg = simplejpeg.encode_jpeg(crop, self.quality, "RGB", colorsubsampling="420")
        return np.frombuffer(jpeg, np.uint8)


def write_pack(
    folder: str | Path,
    persons: Persons,
    images: str | Path,
    skeleton: Skeleton,
    size: tuple[int, int],
    augmentation: Augmentation,
    *,
    encoding: Encoding = "jpeg",
    quality: int = 90,
    reduce: bool = True,
    workers: int = 0,
    about: dict[str, Any] | None = None,
) -> Pack:
    """Pack persons, empty crops of unreadable images; ``folder`` appears only when complete.

    Args:
        folder: to create.
        persons: of one annotation file, all of them, in its order.
        images: folder of their images.
        skeleton: of the persons.
        size: W, H of the largest input that will read the pack.
        augmentation: the widest that will read it.
        encoding: ``jpeg`` or ``raw`` (5 to 10 times as large, without a decoder's work).
        quality: of the JPEG, 4:2:0.
        reduce: False keeps every image's own pixels; a raw pack then shows what the files show.
        workers: processes that cut and encode.
        about: further facts for ``pack.json``.

    Raises:
        FileExistsError: the folder is there already; nothing is overwritten.
        ValueError: unknown encoding, or no image can be read.
    """
    _check(folder := Path(folder).absolute(), encoding)
    files = ImageFiles(persons.files, images, sizes=persons.image_size)
    cut = _Cutter(files, *_views(persons, skeleton, size, augmentation, reduce), encoding, quality)
    with _appearing(folder) as temporary:
        lost = {"unreadable": _write(temporary, cut, persons.files, workers)}
        _describe(temporary, cut, images, skeleton, size, augmentation, lost | (about or {}))
    return Pack(folder)


def _views(
    persons: Persons,
    skeleton: Skeleton,
    size: tuple[int, int],
    augmentation: Augmentation,
    reduce: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(n, 4)`` what training can show of each person, and ``(n,)`` by what it is reduced."""
    bounds, smallest = reach(persons, skeleton, size[0] / size[1], augmentation)
    scale = np.minimum(1, size[0] / smallest) if reduce else np.ones(len(persons))
    return bounds, scale


def _check(folder: Path, encoding: str) -> None:
    """Refuse what cannot be written."""
    if encoding not in ("jpeg", "raw"):
        raise ValueError(f"encoding must be jpeg or raw, got {encoding}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists: remove it or name another (out=FOLDER)")


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the name ``folder`` once all is written, or else goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _describe(
    folder: Path,
    cutter: _Cutter,
    images: str | Path,
    skeleton: Skeleton,
    size: tuple[int, int],
    augmentation: Augmentation,
    about: dict[str, Any],
) -> None:
    """Write ``pack.json``, by which readers know what they take."""
    facts = {
        "format": FORMAT,
        "code": code_version(),
        "encoding": cutter.encoding,
        "quality": cutter.quality if cutter.encoding == "jpeg" else None,
        "persons": len(cutter.scale),
        "skeleton": skeleton.name,
        "size": list(size),
        "augmentation": vars(augmentation),
        "half_body_zoom": HALF_BODY_ZOOM,
        "reduced": float((cutter.scale < 1).mean()),
        "images": str(Path(images).absolute()),
    }
    (folder / "pack.json").write_text(json.dumps(facts | about, indent=2))


def _write(folder: Path, cutter: _Cutter, images: NDArray[np.str_], workers: int) -> int:
    """Write crops in the images' order, so that each image is decoded once, and their index.

    Returns:
        How many persons' images cannot be read.

    Raises:
        ValueError: of all persons.
    """
    order = np.argsort(images, kind="stable").tolist()
    count = len(order)
    start, length = np.zeros(count, np.int64), np.zeros(count, np.int64)
    extent, frame = np.zeros((count, 2), np.int32), np.zeros((count, 4))
    loader = DataLoader(
        cutter,
        batch_size=64,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_they_are,
        worker_init_fn=keep_worker,
    )
    lost = Counter[str]()
    with (folder / "pixels.bin").open("wb") as file:
        for batch in track(loader, "packing", console=console, transient=True):
            for row, data, size, place, error in batch:
                start[row], length[row] = file.tell(), len(data)
                extent[row], frame[row] = size, place
                file.write(data.tobytes())
                lost.update([error] if error else [])
    for error in lost:
        console.print(f"skipped: {error}", style="yellow", soft_wrap=True)
    if lost.total() == count:
        raise ValueError(f"none of the {len(lost)} images can be read")
    np.savez(folder / "index.npz", start=start, length=length, extent=extent, frame=frame)
    return lost.total()


def _as_they_are(items: list[Crop]) -> list[Crop]:
    return items


def pack_split(cfg: DictConfig) -> Pack:
    """Pack one split of a data set, or take its pack where shards are to be cut of it.

    Args:
        cfg: ``conf/pack.yaml``'s keys.
    """
    take_category(cfg)
    where = cfg.dataset[cfg.split]
    skeleton = instantiate(cfg.dataset.skeleton, _convert_="all")
    key = f"dataset.{cfg.split}.annotations"
    persons = load_persons(where.annotations, skeleton, key, images=where.images)
    check_images(persons, where.images, f"dataset.{cfg.split}.images")
    width, height = cfg.size
    folder = Path(cfg.out or default_folder(where.annotations, (width, height)))
    augmentation = instantiate(cfg.data.augmentation)
    if cfg.shards and folder.exists():
        pack = Pack(folder, "out")
        pack.check(where.annotations, skeleton, (width, height), augmentation)
        return pack
    return write_pack(
        folder,
        persons,
        where.images,
        skeleton,
        (width, height),
        augmentation,
        encoding=cfg.encoding,
        quality=cfg.quality,
        reduce=cfg.reduce,
        workers=cfg.workers,
        about={
            "annotations": str(Path(where.annotations).absolute()),
            "annotations_sha256": sha256(where.annotations),
        },
    )
