"""What reaches a machine that has no network, and what leaves it before it is gone."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.part import Places
from kdpose.cli import console

ABOUT, DATA = "pack.json", ("data.tar.xz", "images.tar.xz")
_NAME = "campaign.tar"
_PIECE = 15 * 2**20  # bytes; machines give back files of 16 MiB
_PIECES = 4
_KEPT = ("config.yaml", "metrics.json", "pace.csv", "train.log", "teacher.json", "table.json")


def about(pack: Path) -> dict[str, Any]:
    """What a pack says of itself.

    Raises:
        FileNotFoundError: there is none.
    """
    file = pack / ABOUT
    if not file.is_file():
        raise FileNotFoundError(
            f"no pack at {pack.absolute()} (from what.campaign.pack): `make gpu-pack` writes one"
        )
    return dict(json.loads(file.read_bytes()))


def volumes_of(pack: Path) -> list[Path]:
    """A pack's volumes that are there."""
    beside = sorted(pack.absolute().parent.glob(f"{pack.name}.*"))
    return [volume for volume in (pack, *beside) if (volume / ABOUT).is_file()]


def unpack(pack: Path, here: Places) -> None:
    """Lay out the data of a pack's volumes, unless they are there.

    Raises:
        FileNotFoundError: there is no pack.
    """
    about(pack)
    for volume in volumes_of(pack):
        stamp = here.data / f".{hashlib.sha256((volume / ABOUT).read_bytes()).hexdigest()}"
        if stamp.is_file():
            continue
        here.data.mkdir(parents=True, exist_ok=True)
        for name in DATA:
            if (volume / name).is_file():
                with tarfile.open(volume / name) as tar:
                    tar.extractall(here.data, filter="data")
        stamp.touch()
        console.print(f"data of {volume} in {here.data}", highlight=False)


def bring(here: Places, out: Path) -> None:
    """Write results and finished runs as pieces that a machine gives back.

    A checkpoint is in half precision, and left out where it does not fit.

    Args:
        here: where the campaign works.
        out: folder of the pieces, ``campaign.tar.0`` and on.
    """
    buffer, left = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file in sorted(here.results.glob("*.*")):
            tar.add(file, f"results/{file.name}")
        for metrics in sorted((here.folder / "runs").rglob("metrics.json")):
            run = metrics.parent
            place = f"runs/{run.relative_to(here.folder / 'runs')}"
            for name in _KEPT:
                if (run / name).is_file():
                    tar.add(run / name, f"{place}/{name}")
            if not _add_half(tar, run / "best.ckpt", place, _PIECES * _PIECE - buffer.tell()):
                left.append(str(run.name))
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{_NAME}.*"):
        old.unlink()
    data = buffer.getvalue()
    for number, start in enumerate(range(0, len(data), _PIECE)):
        (out / f"{_NAME}.{number}").write_bytes(data[start : start + _PIECE])
    without = f", without the checkpoints of {', '.join(left)}: too large" if left else ""
    console.print(f"{len(data) / 1e6:.1f} MB to bring back in {out}{without}", highlight=False)


def _add_half(tar: tarfile.TarFile, path: Path, place: str, room: int) -> bool:
    """Add a checkpoint of half the size; whether there was room for it."""
    if not path.is_file() or path.stat().st_size / 2 > room - 2**20:
        return False
    content = torch.load(path, map_location="cpu", weights_only=True)
    content["state_dict"] = {
        key: value.half() if value.is_floating_point() else value
        for key, value in content["state_dict"].items()
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    entry = tarfile.TarInfo(f"{place}/{path.name}")
    entry.size = buffer.tell()
    buffer.seek(0)
    tar.addfile(entry, buffer)
    return True


def restore(earlier: Path, here: Places) -> None:
    """Lay out what :func:`bring` wrote elsewhere.

    Runs that are here already stay; of two sets of results, the one with the later part is kept.

    Raises:
        FileNotFoundError: there is nothing of it.
    """
    pieces = sorted(earlier.glob(f"{_NAME}.*"))
    if not pieces:
        raise FileNotFoundError(
            f"no {_NAME}.0 in {earlier.absolute()} (from what.campaign.earlier): name the folder "
            "that what.campaign.bring named"
        )
    data = io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))
    with tarfile.open(fileobj=data) as tar:
        told = tar.extractfile("results/report.json")
        own = here.results / "report.json"
        newer = told is not None and _latest(told.read()) > _latest(
            own.read_bytes() if own.is_file() else b""
        )
        for entry in tar.getmembers():
            kind, _, entry.name = entry.name.partition("/")
            root = here.results if kind == "results" else here.folder / "runs"
            if newer if kind == "results" else not (root / entry.name).exists():
                tar.extract(entry, root, filter="data")


def _latest(report: bytes) -> str:
    """When the last part of a report ended."""
    parts = json.loads(report)["parts"].values() if report else []
    return max((str(part["date"]) for part in parts), default="")
