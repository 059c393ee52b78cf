"""``what=gpu_pack``: all that the campaign needs on a machine without network, in 60 MB."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.table import Table

from benchmarks.gpu import images
from benchmarks.gpu.travel import ABOUT, DATA, volumes_of
from kdpose.runtime.provenance import code_version
from kdpose.runtime.whole import write_json
from kdpose.skeletons.known import COCO

_PYTHON = "3.12"  # of the machine with the GPU
_PLATFORMS = (
    *(f"manylinux_2_{number}_x86_64" for number in (35, 34, 28, 27, 17)),
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)
Sizes = dict[str, tuple[int, float]]  # files and MB, by content


@dataclass(frozen=True)
class Parcel:
    """What is packed.

    Attributes:
        data_dir: folder of data sets, by name.
        contents: by name, files and folders below ``data_dir``: ``whole`` ones as they are,
            ``images`` that may be coded again, the last of them left out in part.
        needs: contents by part of the campaign; ``answers`` are the teacher's.
        train: ``annotations`` and ``images`` that the teacher answers for.
        teacher: configuration of the network that is asked.
        wheels: packages that the machine lacks, in the versions that are installed here.
        limit_mb: of a volume; more is refused.
        volumes: how many, of which all but the first have images alone.
        part: what to pack for; None: all parts.
        answers: stored answers for ``train``, in place of asking.
        workers: processes that answer and code images.
    """

    data_dir: str
    contents: Mapping[str, Mapping[str, Sequence[str]]]
    needs: Mapping[str, Sequence[str]]
    train: Sequence[Mapping[str, str]]
    teacher: Mapping[str, Any]
    wheels: Sequence[str]
    limit_mb: float
    volumes: int = 1
    part: str | Sequence[str] | None = None
    answers: Sequence[str] | None = None
    workers: int = 2


def run(out: str | None, scratch: str | None, command: str, **values: Any) -> Table:
    """Write the pack; training images get the highest quality at which all of it fits.

    Args:
        out: folder to write; an earlier pack there is replaced. Further volumes are beside it, as
            ``out.2`` and on.
        scratch: folder for temporary files.
        command: that started it.
        values: of :class:`Parcel`.

    Returns:
        Megabytes by content.

    Raises:
        ValueError: a part is unknown, or the pack is too large either way.
        FileNotFoundError: a file is not there.
    """
    if not out:
        raise ValueError("what=gpu_pack needs out=FOLDER")
    parcel = Parcel(**values)
    wanted = _wanted(parcel.needs, parcel.part)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="kdpose-gpu-pack-") as folder:
        made = [Path(folder) / str(number + 1) for number in range(parcel.volumes)]
        for volume in made:
            volume.mkdir()
        sizes, cut = _fill(parcel, wanted, made)
        parts = parcel.part or list(parcel.needs)
        facts = {"commit": code_version()["commit"], "parts": parts, "cut": cut}
        for number, volume in enumerate(made, start=1):
            write_json(volume / ABOUT, {**facts, "volume": number, "contents": sizes}, indent=2)
        _check(made, parcel.limit_mb)
        _move(made, Path(out))
        return _table(sizes, [_bytes(volume) for volume in made], cut)


def _fill(parcel: Parcel, wanted: Sequence[str], made: Sequence[Path]) -> tuple[Sizes, list[str]]:
    """Write all contents to the volumes; returns their sizes and what was cut."""
    root, first = Path(parcel.data_dir).absolute(), made[0]
    chosen = {name: parcel.contents[name] for name in wanted if name in parcel.contents}
    sizes = _wheels(first / "wheels", parcel.wheels)
    if "answers" in wanted:
        files = parcel.answers or _asked(parcel.train, parcel.teacher, parcel.workers)
        _copy_answers(list(files), parcel.train, first / "answers")
    whole = {name: values.get("whole", ()) for name, values in chosen.items()}
    sizes |= _add_whole(first / DATA[0], root, whole, first / "answers")
    rooms = {v / DATA[1]: int(1e6 * parcel.limit_mb) - _bytes(v) for v in made}
    cut = _add_images(rooms, root, chosen, parcel.workers)
    return sizes | _image_sizes(rooms), cut


def _add_images(
    rooms: Mapping[Path, int],
    root: Path,
    chosen: Mapping[str, Mapping[str, Sequence[str]]],
    workers: int,
) -> list[str]:
    """Write the training images; returns what was cut."""
    folders = {
        root / folder: [root / place for place in values.get("whole", ())]
        for values in chosen.values()
        for folder in values.get("images", ())
    }
    if not folders:
        return []
    found = images.plan(list(folders), sum(rooms.values()))
    lists = [
        file
        for folder in found.thinned
        for place in folders[folder]
        for file in _files(place)
        if file.suffix == ".json"
    ]
    images.write(rooms, found, root, lists, workers)
    return found.cut(root)


def _image_sizes(archives: Iterable[Path]) -> Sizes:
    there = [path for path in archives if path.is_file()]
    sizes = {}
    for number, path in enumerate(there, start=1):
        with tarfile.open(path) as tar:
            count = len(tar.getmembers())
        sizes[f"training images {number}"] = (count, path.stat().st_size / 1e6)
    return sizes


def _wanted(needs: Mapping[str, Sequence[str]], part: str | Sequence[str] | None) -> list[str]:
    """The contents of some parts."""
    names = [part] if isinstance(part, str) else list(part or needs)
    unknown = [name for name in names if name not in needs]
    if unknown:
        raise ValueError(
            f"what.campaign.part has no {', '.join(unknown)}: there are {', '.join(needs)}"
        )
    return list(dict.fromkeys(content for name in names for content in needs[name]))


def _wheels(folder: Path, names: Sequence[str]) -> Sizes:
    """Download packages for the machine with the GPU; build those that have no wheel."""
    folder.mkdir()
    pins = [f"{name}=={version(name)}" for name in names]
    pip = [sys.executable, "-m", "pip"]
    there = [w for name in _PLATFORMS for w in ("--platform", name)]
    there += ["--python-version", _PYTHON, "--implementation", "cp", "--only-binary=:all:"]
    for pin in pins:
        common = ["--quiet", "--disable-pip-version-check", "--no-deps", pin]
        done = subprocess.run(
            [*pip, "download", *common, "--dest", str(folder), *there], capture_output=True
        )
        if done.returncode:
            subprocess.run([*pip, "wheel", *common, "--wheel-dir", str(folder)], check=True)
    return {"wheels": (len(pins), _bytes(folder) / 1e6)} if pins else {}


def _asked(
    train: Sequence[Mapping[str, str]], teacher: Mapping[str, Any], workers: int
) -> list[str]:
    """The teacher's answers, as a training would store and find them."""
    from kdpose.training.asked_teacher import AskedTeacher
    from kdpose.training.teacher_check import build_teacher

    asked = build_teacher(OmegaConf.create({"teacher": dict(teacher)}))
    assert isinstance(asked, AskedTeacher)
    return asked.ask(train, COCO, num_workers=min(2, workers), device="cpu").files


def _copy_answers(files: Sequence[str], train: Sequence[Mapping[str, str]], folder: Path) -> None:
    """Name each file as the annotations that it answers."""
    if len(files) != len(train):
        raise ValueError(
            f"what.campaign.answers must name one file per training set: {len(train)} sets, "
            f"{len(files)} files"
        )
    folder.mkdir()
    for file, split in zip(files, train, strict=True):
        shutil.copy(file, folder / f"{Path(split['annotations']).stem}.json")


def _add_whole(
    path: Path, root: Path, contents: Mapping[str, Sequence[str]], answers: Path
) -> Sizes:
    """Write the files that must stay as they are; returns their sizes before compression."""
    sizes: Sizes = {}
    with tarfile.open(path, "w:xz") as tar:
        for name, places in contents.items():
            files = [file for place in places for file in _files(root / place)]
            for file in files:
                tar.add(file.resolve(), str(file.relative_to(root)))
            sizes[name] = (len(files), sum(file.stat().st_size for file in files) / 1e6)
        for file in sorted(answers.glob("*.json")):
            tar.add(file, f"answers/{file.name}")
            count, size = sizes.get("answers", (0, 0.0))
            sizes["answers"] = (count + 1, size + file.stat().st_size / 1e6)
    shutil.rmtree(answers, ignore_errors=True)
    return sizes


def _files(place: Path) -> list[Path]:
    """A file, or those of a folder.

    Raises:
        FileNotFoundError: neither is there.
    """
    found = [place] if place.is_file() else sorted(f for f in place.glob("*") if f.is_file())
    if not found:
        raise FileNotFoundError(
            f"no {place} (from data_dir): set KDPOSE_DATA to where the data lie"
        )
    return found


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _check(volumes: Sequence[Path], limit_mb: float) -> None:
    total = max(_bytes(volume) for volume in volumes)
    if total > 1e6 * limit_mb:
        raise ValueError(
            f"the pack has {total / 1e6:.1f} MB and what.campaign.limit_mb is {limit_mb:g}: pack "
            "for fewer parts (what.campaign.part=rows)"
        )


def _move(made: Sequence[Path], pack: Path) -> None:
    """Put complete volumes in their places, and remove others of an earlier pack."""
    if pack.exists() and not (pack / ABOUT).is_file():
        raise FileExistsError(
            f"{pack.absolute()} is no pack: remove it or name another (out=FOLDER)"
        )
    for old in volumes_of(pack):
        shutil.rmtree(old)
    for number, volume in enumerate(made, start=1):
        shutil.copytree(volume, pack if number == 1 else pack.with_name(f"{pack.name}.{number}"))


def _table(sizes: Sizes, totals: Sequence[int], cut: Sequence[str]) -> Table:
    table = Table("content", "files", "MB", caption="; ".join(cut) or None)
    for name, (count, size) in sizes.items():
        table.add_row(name, str(count), f"{size:.1f}")
    for number, total in enumerate(totals, start=1):
        table.add_row(f"volume {number}", "", f"{total / 1e6:.1f}")
    return table
