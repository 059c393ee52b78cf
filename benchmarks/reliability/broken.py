"""Files that are damaged, or are something else."""

import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

Write = Callable[[Path], object]
_JSON = {"annotations": "a.json", "results": "p.json", "detections": "d.json", "skeleton": "s.yaml"}
_PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
_RANDOM = 12  # damages of each file at random places
_PNG, _TIFF = ("1", "L", "LA", "P", "RGBA", "I;16"), ("CMYK", "F", "YCbCr")
_BOMB = 20_000  # pixels along a side of a picture of one colour
_NAMES = (
    "a b", "ä", "[bold]", "[", "a\nb", "-x", "x=y", "\U0001f642", ".hidden", "\udcff", "%d", "~",
    "1,2",
)  # fmt: skip


def files(seed: int) -> Iterator[tuple[str, str, Write]]:
    """Kind, name and the change of a folder's files."""
    for kind, file in _JSON.items():
        yield from ((kind, name, write) for name, write in _damages(file, seed))
    yield from (("checkpoint", name, write) for name, write in _damages("net.ckpt", seed))
    yield from (("images", name, write) for name, write in _damages("images/1.png", seed))
    yield from (("images", name, write) for name, write in _pictures())
    yield from (("video", name, write) for name, write in _damages("v.mp4", seed))
    for count in (0, 1, 3, 200_000):
        yield "annotations", f"nested {count} deep", _nested("a.json", count)


def _damages(file: str, seed: int) -> Iterator[tuple[str, Write]]:
    """What happens to any file."""
    yield "empty", lambda folder: (folder / file).write_bytes(b"")
    yield "missing", lambda folder: (folder / file).unlink()
    yield "a page of the web", lambda folder: (folder / file).write_bytes(_PAGE)
    yield "a folder", lambda folder: _instead(folder / file, Path.mkdir)
    yield "a FIFO", lambda folder: _instead(folder / file, os.mkfifo)
    yield "a link to itself", lambda folder: _instead(folder / file, lambda p: p.symlink_to(p))
    yield "/dev/zero", lambda folder: _instead(folder / file, lambda p: p.symlink_to("/dev/zero"))
    for number in range(_RANDOM):
        rng = random.Random(f"{seed} {file} {number}")
        yield f"cut short {number}", _changed(file, rng, _cut)
        yield f"zeros {number}", _changed(file, rng, _zeros)
        yield f"one byte flipped {number}", _changed(file, rng, _flip)


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _changed(file: str, rng: random.Random, change: Callable[[bytes, float], bytes]) -> Write:
    place = rng.random()  # drawn now, so that it does not depend on what was run before

    def write(folder: Path) -> None:
        path = folder / file
        path.write_bytes(change(path.read_bytes(), place))

    return write


def _cut(data: bytes, place: float) -> bytes:
    return data[: int(len(data) * place)]


def _zeros(data: bytes, place: float) -> bytes:
    start = int(len(data) * place)
    return data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :]


def _flip(data: bytes, place: float) -> bytes:
    start = int((len(data) - 1) * place)
    return data[:start] + bytes([data[start] ^ 0x10]) + data[start + 1 :]


def _pictures() -> Iterator[tuple[str, Write]]:
    """Pictures that are whole and unusual."""
    for mode in (*_PNG, *_TIFF):
        yield f"mode {mode}", partial(_picture, mode=mode)
    for side in (1, 2, 65_000):
        yield f"{side} x 1", partial(_sized, width=side, height=1)
    yield "a bomb", partial(_sized, width=_BOMB, height=_BOMB)
    for turn in range(9):
        yield f"EXIF orientation {turn}", partial(_turned, orientation=turn)
    yield "EXIF of random bytes", _random_exif


def _picture(folder: Path, mode: str) -> None:
    rng = np.random.default_rng(0)
    path, size = folder / "images" / "1.png", (120, 160)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 60_000, size).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random(size).astype(np.float32))
    else:
        image = Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8))
        image = image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)
    image.save(path, "TIFF" if mode in _TIFF else "PNG")


def _sized(folder: Path, width: int, height: int) -> None:
    Image.new("L", (width, height)).save(folder / "images" / "1.png")


def _turned(folder: Path, orientation: int) -> None:
    path = folder / "images" / "1.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).convert("RGB").save(path, "JPEG", exif=exif)


def _random_exif(folder: Path) -> None:
    path = folder / "images" / "1.png"
    data = b"Exif\x00\x00" + np.random.default_rng(0).bytes(300)
    Image.open(path).convert("RGB").save(path, "JPEG", exif=data)


def _nested(file: str, count: int) -> Write:
    def write(folder: Path) -> None:
        whole = json.loads((folder / file).read_text())
        text = json.dumps(whole)[:-1] + ', "info": ' + "[" * count + "0" + "]" * count + "}"
        (folder / file).write_text(text)

    return write


def names() -> Iterator[tuple[str, Write]]:
    """Names that a picture of a folder may have, none of which means anything."""
    for name in _NAMES:
        yield ascii(name), partial(_renamed, name=f"{name}.png")
    for suffix in ("PNG", "jpg", "gif"):
        yield f"a PNG called .{suffix}", partial(_renamed, name=f"1.{suffix}")


def _renamed(folder: Path, name: str) -> None:
    (folder / "images" / "1.png").rename(folder / "images" / name)
