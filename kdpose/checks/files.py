"""Image files: present, readable, of the annotated size, and in one split only."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdpose.checks.findings import Example, Finding, Severity, first
from kdpose.checks.split import Split
from kdpose.data.sources.images import read_image
from kdpose.runtime.image_header import QUARTERS, open_header, orientation

_LARGE = 16_000_000  # pixels, of which only one image is opened at a time
_ONE_AT_A_TIME = Lock()
_ALIKE = 6  # bits of 256 in which scaled or re-encoded copies differ; other images, ~128


@dataclass(frozen=True, eq=False)
class ImageFact:
    """What was learned by opening an image file.

    Attributes:
        name: as the annotation file spells it.
        fault: ``missing_image``, ``empty_image``, ``unreadable_image``, or None.
        detail: of the fault.
        size: width and height of the pixels, as training reads them.
        stored: width and height of the stored pixels.
        turn: EXIF's orientation, 1 for none.
        digest: hash of the file's bytes.
        look: ``(4,)`` uint64, a perceptual hash, see :func:`look`.
    """

    name: str
    fault: str | None = None
    detail: str = ""
    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    turn: int = 1
    digest: bytes = b""
    look: NDArray[np.uint64] | None = None


def open_images(
    folder: Path,
    names: Sequence[str],
    progress: Callable[[Iterable[ImageFact], int], Iterable[ImageFact]] = lambda facts, _: facts,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> list[ImageFact]:
    """Open image files, several at once.

    Args:
        folder: that contains them.
        names: file names.
        progress: wraps the iterator of facts; also receives their number.
        sizes: width and height by name, as training takes them from the annotation file.
    """
    said = sizes or {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the GIL
        facts = pool.map(lambda name: _open(folder, name, said.get(name)), names)
        return list(progress(facts, len(names)))


def _open(folder: Path, name: str, size: tuple[int, int] | None) -> ImageFact:
    path = folder / name
    try:
        with open_header(path) as file:
            turn, stored = orientation(file), file.size
        with _ONE_AT_A_TIME if stored[0] * stored[1] > _LARGE else nullcontext():
            pixels = read_image(path, size=size)
            digest, seen = hashlib.blake2b(path.read_bytes(), digest_size=16).digest(), look(pixels)
    except FileNotFoundError:
        return ImageFact(name, "missing_image")
    except OSError as error:
        if path.is_file() and not path.stat().st_size:
            return ImageFact(name, "empty_image", "zero bytes")
        return ImageFact(name, "unreadable_image", str(error).rpartition(": ")[2])
    read = pixels.shape[1], pixels.shape[0]
    return ImageFact(name, size=read, stored=stored, turn=turn, digest=digest, look=seen)


def look(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 256-bit perceptual hash: where brightness rises to the right, on a 16 x 16 grid (dHash)."""
    small = Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.BOX)
    values = np.asarray(small, dtype=np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1]).view(np.uint64)


def faults(facts: Sequence[ImageFact], folder: Path) -> Iterator[Finding]:
    """Files that are missing, empty or not an image."""
    if facts and all(fact.fault == "missing_image" for fact in facts):
        message = (
            f"no image found in {folder.absolute()}: set the folder that file_name is relative to"
        )
        yield Finding("missing_image", "unusable", len(facts), message, _named(facts))
        return
    for kind, message in (
        ("missing_image", f"images are missing in {folder.absolute()}"),
        ("empty_image", "image files are empty: copy them again"),
        ("unreadable_image", "image files cannot be read: copy them again or leave them out"),
    ):
        found = [fact for fact in facts if fact.fault == kind]
        if found:
            yield Finding(kind, "error", len(found), message, _named(found))


def _named(facts: Iterable[ImageFact]) -> tuple[Example, ...]:
    return first(Example(fact.detail, fact.name) for fact in facts)


_SIZES: dict[str, tuple[Severity, str]] = {
    "exif_rotation": (
        "note",
        "images are stored on their side and annotated upright: turned by EXIF when read",
    ),
    "exif_unclear": (
        "warning",
        "images have an EXIF orientation that the annotated size cannot confirm, and are read as "
        "stored: if they were annotated upright, save them upright",
    ),
    "swapped_size": ("warning", "images have width and height swapped in the annotations"),
    "image_size": ("error", "images differ in size from the annotations, so joints are misplaced"),
}


def sizes(split: Split, facts: Sequence[ImageFact]) -> Iterator[Finding]:
    """Images whose size differs from the annotated one."""
    said = {str(i["file_name"]): (round(i["width"]), round(i["height"])) for i in split.images}
    found: dict[str, list[ImageFact]] = {kind: [] for kind in _SIZES}
    for fact in facts:
        if fact.fault is None:
            for kind in _size_kinds(fact, said[fact.name]):
                found[kind].append(fact)
    for kind, (severity, message) in _SIZES.items():
        if found[kind]:
            shown = first(
                Example(
                    f"{f.stored[0]} x {f.stored[1]}, not {said[f.name][0]} x {said[f.name][1]}",
                    f.name,
                )
                for f in found[kind]
            )
            yield Finding(kind, severity, len(found[kind]), message, shown)


def _size_kinds(fact: ImageFact, annotated: tuple[int, int]) -> Iterator[str]:
    """The keys of ``_SIZES`` that are true of an image."""
    if fact.size != fact.stored:
        yield "exif_rotation"
    elif fact.turn > 1 and (fact.turn not in QUARTERS or fact.stored[0] == fact.stored[1]):
        yield "exif_unclear"
    if fact.size != annotated:
        yield "swapped_size" if fact.size == annotated[::-1] else "image_size"


def copies(facts: Sequence[ImageFact]) -> Iterator[Finding]:
    """The same file under two names of one split."""
    names = defaultdict(list)
    for fact in facts:
        if fact.fault is None:
            names[fact.digest].append(fact.name)
    twice = [group for group in names.values() if len(group) > 1]
    if twice:
        shown = first(Example(f"the same file as {group[0]}", group[1]) for group in twice)
        message = "images occur under several names"
        yield Finding("duplicate_image", "warning", len(twice), message, shown)


def leaked_contents(train: Sequence[ImageFact], val: Sequence[ImageFact]) -> Iterator[Finding]:
    """Validation images that are also training images: the same file, or near duplicates."""
    known = {fact.digest: fact.name for fact in train if fact.fault is None}
    sound = [fact for fact in val if fact.fault is None]
    same = [fact for fact in sound if fact.digest in known]
    if same:
        shown = first(Example(f"is training's {known[f.digest]}", f.name) for f in same)
        message = (
            f"of {len(val)} validation images are also training images: remove them from one split"
        )
        yield Finding("leakage", "error", len(same), message, shown)
    rest = [fact for fact in sound if fact.digest not in known]
    alike = list(_alike([fact for fact in train if fact.fault is None], rest))
    if alike:
        shown = first(Example(f"looks like training's {a.name}", b.name) for a, b in alike)
        message = "validation images look like a training image: copies, or frames of one scene"
        yield Finding("look_alike", "warning", len(alike), message, shown)


def _alike(
    train: Sequence[ImageFact], val: Sequence[ImageFact]
) -> Iterator[tuple[ImageFact, ImageFact]]:
    """For each validation image its nearest training image, if that is near enough."""
    if not train:
        return
    known = np.stack([fact.look for fact in train if fact.look is not None])
    for fact in val:
        assert fact.look is not None
        if not fact.look.any():
            continue  # uniform images all hash alike
        bits = np.bitwise_count(known ^ fact.look).sum(axis=1)
        nearest = int(bits.argmin())
        if bits[nearest] <= _ALIKE:
            yield train[nearest], fact


def leaked_paths(train: Iterable[Path], val: Iterable[Path]) -> Iterator[Finding]:
    """The same paths in both splits; no file is opened."""
    known = set(train)
    same = [path for path in val if path in known]
    if same:
        shown = first(Example("", str(path)) for path in same)
        message = "validation images are also training images: remove them from one split"
        yield Finding("leakage", "error", len(same), message, shown)
