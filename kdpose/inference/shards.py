"""Results of any number of images, as files that can safely be written more than once.

A shard is a file with the results of some images. Its name gives its position and a hash of all
that determines its content, and it appears complete or not at all. If it is predicted a second
time, because a worker was lost or the run was restarted, the same file is written.
"""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from kdpose.inference.images import ImageFile
from kdpose.inference.worker import ImageResult

Predict = Callable[[Iterable[ImageFile]], Iterator[ImageResult]]


class Shard(NamedTuple):
    """A file to write, and the images whose results it gets."""

    path: Path
    images: list[ImageFile]


class Count(NamedTuple):
    """Counts of a shard; unreadable images also count as broken."""

    images: int = 0
    persons: int = 0
    broken: int = 0

    def plus(self, other: "Count") -> "Count":
        """Both together."""
        return Count(*(a + b for a, b in zip(self, other, strict=True)))


def divide(
    images: Sequence[ImageFile], size: int, folder: Path, settings: Mapping[str, Any]
) -> list[Shard]:
    """The shards of a source.

    Args:
        images: of the source.
        size: images per shard.
        folder: for the shards.
        settings: plain values that determine the results.

    Raises:
        ValueError: the size is not positive, or the folder holds shards of other settings or
            images.
    """
    if size < 1:
        raise ValueError(f"shard must be a number of images >= 1, got {size}")
    shards = []
    for number, start in enumerate(range(0, len(images), size)):
        part = list(images[start : start + size])
        known_by = [[str(i.path.absolute()), i.image_id, i.name] for i in part]
        digest = sha256(json.dumps([settings, known_by], sort_keys=True).encode()).hexdigest()
        shards.append(Shard(folder.absolute() / f"{number:06d}-{digest[:12]}.jsonl", part))
    strange = {path.name for path in folder.glob("*.jsonl")} - {s.path.name for s in shards}
    if strange:
        raise ValueError(
            f"{folder.absolute()} (from out) holds {len(strange)} shards of other settings or "
            f"images, such as {min(strange)}: remove them or set out=ANOTHER_FOLDER"
        )
    return shards


def write(shard: Shard, predict: Predict) -> Count:
    """Predict a shard's images and write a line of JSON for each, atomically."""
    writer = f"{socket.gethostname()}-{os.getpid()}"  # two may write one shard, if one seems lost
    unfinished = shard.path.with_name(f".{shard.path.stem}.{writer}.part")
    with unfinished.open("w") as file:
        count = Count()
        for result in predict(shard.images):
            file.write(json.dumps(_line(result)) + "\n")
            broken = int(result.error is not None)
            count = count.plus(Count(1, len(result.persons), broken))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(shard.path)
    return count


def _line(result: ImageResult) -> dict[str, Any]:
    image, persons, error = result
    line = {"image_id": image.image_id, "file_name": image.path.name, "persons": persons}
    return line if error is None else {**line, "error": error}


def count(shard: Shard) -> tuple[Count, list[str]]:
    """The counts of a finished shard, and a line for each image that could not be read."""
    with shard.path.open() as file:
        lines = [json.loads(line) for line in file]
    errors = [str(line["error"]) for line in lines if "error" in line]
    return Count(len(lines), sum(len(line["persons"]) for line in lines), len(errors)), errors


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files of lost workers; no worker may be running."""
    for path in folder.glob(".*.part"):
        path.unlink()
