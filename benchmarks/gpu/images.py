"""Training images that are coded again where that is needed for them to fit."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from kdpose.cli import console

QUALITIES = (None, 80, 70, 60, 50, 40, 30, 20, 10)  # of WebP; None: the files as they are
_EVERY = 40  # of the images is looked at to choose
_ENTRY = 60  # bytes that a file's entry takes in the compressed archive
_SPARE = 0.98


def encoded(file: Path, quality: int | None) -> bytes:
    """An image's file, or its pixels as WebP where that is smaller."""
    data = file.read_bytes()
    if quality is None:
        return data
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=quality, method=4)
    return min(data, buffer.getvalue(), key=len)


def fitting(files: Sequence[Path], room: int) -> int | None:
    """The highest quality at which the images are expected to fit.

    Args:
        files: all of them, of which some are coded.
        room: bytes.

    Raises:
        ValueError: they fit at none.
    """
    sample = files[::_EVERY]
    for quality in QUALITIES:
        mean = sum(len(encoded(file, quality)) for file in sample) / len(sample)
        if (mean + _ENTRY) * len(files) <= _SPARE * room:
            return quality
    raise ValueError(
        f"{len(files)} training images do not fit {room / 1e6:.1f} MB at any quality: pack for "
        "fewer parts (what.campaign.part=rows), or raise what.campaign.limit_mb"
    )


def add_images(
    path: Path, root: Path, folders: Iterable[str], room: int, workers: int
) -> tuple[int, list[str]]:
    """Write an archive of folders of images.

    Args:
        path: of the archive.
        root: that the folders are below.
        folders: of images.
        room: bytes that it may take.
        workers: processes that code.

    Returns:
        How many images there are, and what was cut.

    Raises:
        FileNotFoundError: a folder has no images.
        ValueError: see :func:`fitting`.
    """
    files = [file for folder in folders for file in sorted((root / folder).glob("*.*"))]
    if not files:
        raise FileNotFoundError(f"no images in {root} (from data_dir): set KDPOSE_DATA")
    quality = fitting(files, room)
    code = partial(encoded, quality=quality)
    with (
        tarfile.open(path, "w:xz", preset=1) as tar,
        ProcessPoolExecutor(max(1, workers), get_context("spawn")) as pool,
    ):
        coded = pool.map(code, files, chunksize=64)
        shown = track(zip(files, coded, strict=True), "images", len(files), console=console)
        for file, data in shown:
            entry = tarfile.TarInfo(str(file.relative_to(root)))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    if quality is None:
        return len(files), []
    moved = np.mean([_difference(file, code(file)) for file in files[::_EVERY]])
    return len(files), [
        f"training images are WebP of quality {quality}: pixels differ by {moved:.1f} of 255"
    ]


def _difference(file: Path, data: bytes) -> float:
    """Mean difference of the pixels of a file and of its smaller version."""
    with Image.open(file) as before, Image.open(io.BytesIO(data)) as after:
        pair = [np.asarray(image.convert("RGB"), np.float32) for image in (before, after)]
    return float(np.abs(pair[0] - pair[1]).mean())
