"""Training images, coded again or left out where that is needed for them to fit."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from kdpose.cli import console

QUALITIES = (None, 80, 70, 60, 50, 40, 30)  # of WebP; None: the files as they are
_EVERY = 40  # of the images is looked at to choose
_ENTRY = 60  # bytes that a file's entry takes in the compressed archive
_SPARE = 0.98


@dataclass(frozen=True)
class Plan:
    """What is packed.

    Attributes:
        files: the images.
        quality: see :data:`QUALITIES`.
        thinned: folders of which images are left out.
    """

    files: list[Path]
    quality: int | None
    thinned: list[Path] = field(default_factory=list)

    def cut(self, root: Path) -> list[str]:
        """What is lost, for people."""
        said = []
        if self.quality is not None:
            sample = self.files[::_EVERY]
            moved = np.mean([_difference(f, encoded(f, self.quality)) for f in sample])
            said.append(
                f"training images are WebP of quality {self.quality}: pixels differ by {moved:.1f} "
                "of 255"
            )
        for folder in self.thinned:
            kept = sum(file.parent == folder for file in self.files)
            said.append(f"{kept} of {len(_images(folder))} images of {folder.relative_to(root)}")
        return said


def plan(folders: Sequence[Path], room: int) -> Plan:
    """Choose the highest quality at which all is expected to fit.

    Where none is low enough, images of the last folder are left out, evenly.

    Args:
        folders: of images.
        room: bytes.

    Raises:
        FileNotFoundError: a folder has no images.
        ValueError: they do not fit either way.
    """
    every = {folder: _images(folder) for folder in folders}
    sizes: dict[Path, float] = {}
    for quality in QUALITIES:
        sizes = {folder: _mean(files, quality) for folder, files in every.items()}
        whole = sum(sizes[folder] * len(files) for folder, files in every.items())
        if whole <= _SPARE * room:
            return Plan([file for files in every.values() for file in files], quality)
    last = folders[-1]
    first = [file for folder in folders[:-1] for file in every[folder]]
    left = _SPARE * room - sum(sizes[folder] * len(every[folder]) for folder in folders[:-1])
    count = int(left / sizes[last])
    if len(folders) == 1 or count < 1:
        raise ValueError(
            f"{len(first) + len(every[last])} training images do not fit {room / 1e6:.1f} MB: pack "
            "for fewer parts (what.campaign.part=rows) or in more volumes (what.campaign.volumes=2)"
        )
    chosen = np.linspace(0, len(every[last]) - 1, count).astype(int)
    return Plan(first + [every[last][i] for i in chosen], QUALITIES[-1], [last])


def _images(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.*"))
    if not found:
        raise FileNotFoundError(f"no images in {folder} (from data_dir): set KDPOSE_DATA")
    return found


def _mean(files: Sequence[Path], quality: int | None) -> float:
    """Bytes of one in the archive, from some of them."""
    sample = files[::_EVERY]
    return sum(len(encoded(file, quality)) for file in sample) / len(sample) + _ENTRY


def encoded(file: Path, quality: int | None) -> bytes:
    """An image's file, or its pixels as WebP where that is smaller."""
    data = file.read_bytes()
    if quality is None:
        return data
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(buffer, "WEBP", quality=quality, method=4)
    return min(data, buffer.getvalue(), key=len)


def _difference(file: Path, data: bytes) -> float:
    """Mean difference of the pixels of a file and of its smaller version."""
    with Image.open(file) as before, Image.open(io.BytesIO(data)) as after:
        pair = [np.asarray(image.convert("RGB"), np.float32) for image in (before, after)]
    return float(np.abs(pair[0] - pair[1]).mean())


def write(
    archives: Mapping[Path, int],
    chosen: Plan,
    root: Path,
    annotations: Sequence[Path],
    workers: int,
) -> None:
    """Write the images, in order, to archives.

    Args:
        archives: with the bytes that each may take.
        chosen: the images.
        root: that they are below.
        annotations: files that list the images of the thinned folders.
        workers: processes that code.
    """
    code = partial(encoded, quality=chosen.quality)
    with ProcessPoolExecutor(max(1, workers), get_context("spawn")) as pool:
        coded = zip(chosen.files, pool.map(code, chosen.files, chunksize=64), strict=True)
        rest = iter(track(coded, "images", len(chosen.files), console=console, transient=True))
        held = next(rest, None)
        for number, (path, room) in enumerate(archives.items()):
            used = 0.0
            with tarfile.open(path, "w:xz", preset=1) as tar:
                for file in annotations if chosen.thinned and number == 0 else ():
                    _add(tar, file.relative_to(root), _thinned(file, chosen))
                while held is not None and (number == len(archives) - 1 or used < _SPARE * room):
                    _add(tar, held[0].relative_to(root), held[1])
                    used += len(held[1]) + _ENTRY
                    held = next(rest, None)


def _thinned(annotations: Path, chosen: Plan) -> bytes:
    """An annotation file without the images that are left out."""
    content = json.loads(annotations.read_bytes())
    names = {file.name for file in chosen.files if file.parent in chosen.thinned}
    images = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    persons = [person for person in content["annotations"] if person["image_id"] in ids]
    return json.dumps({**content, "images": images, "annotations": persons}).encode()


def _add(tar: tarfile.TarFile, name: Path, data: bytes) -> None:
    entry = tarfile.TarInfo(str(name))
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
