"""DeepLabCut's and Lightning Pose's tables: CSV or HDF5 with a header of three or four rows."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from kdpose.formats.persons import (
    Person,
    Picture,
    by_number,
    coco_file,
    confident,
    named,
    nearest,
    number,
)
from kdpose.skeletons.skeleton import Skeleton

Rows = list[list[str]]
_HEADER = ("scorer", "individuals", "bodyparts", "coords")
_NO_FRAME = "rows are of frames that the folder of images does not have, and are left out"
_LOOSE = "points are of body parts without an individual and are left out"


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read labels, or predictions with likelihoods.

    Args:
        source: ``CollectedData_NAME.csv`` or ``.h5``, predictions of that form, or a project's
            folder, all of whose labels are read with the limbs of its ``config.yaml``.
        images: folder that the rows' paths start from, or a video's frames; None: the nearest
            folder above the table that has the images.
        skeleton: joints and their order; None: the header's.
    """
    tables = _tables(source)
    pictures, joints, lost = list[Picture](), dict[str, None](), Counter[str]()
    root = images
    for table in tables:
        rows, columns = _header(_rows(table), table)
        several = any(animal for animal, _, _ in columns.values())
        joints |= dict.fromkeys(part for one, part, _ in columns.values() if one or not several)
        first = min(columns)
        names = ["/".join(filter(None, row[:first])).replace("\\", "/") for row in rows]
        if any(names) and all(name.isdigit() for name in names):
            frames = by_number(images, table)
            names = [frames.get(int(name), "") for name in names]
        else:
            root = root or _root(table, names)
            names = [nearest(name, root) for name in names]
        for name, row in zip(names, rows, strict=True):
            if name:
                pictures.append(Picture(name, _persons(row, columns, table, lost)))
            else:
                lost[_NO_FRAME] += 1
    skeleton = skeleton or named(list(joints), "deeplabcut", _limbs(source, list(joints)))
    return coco_file(source, pictures, skeleton, root, lost)


def _tables(source: Path) -> list[Path]:
    if source.is_dir():
        found = sorted(source.rglob("CollectedData_*.csv"))
        if not found:
            where = f"{source.absolute()} (from source)"
            raise FileNotFoundError(f"no CollectedData_NAME.csv in {where}")
        return found
    if not source.is_file():
        raise FileNotFoundError(f"no table at {source.absolute()} (from source)")
    return [source]


def _rows(table: Path) -> Rows:
    if table.suffix.lower() in (".h5", ".hdf5", ".hdf"):
        text: Iterable[str] = _as_csv(table).splitlines()
        return [row for row in csv.reader(text) if row]
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table.absolute()} (from source) is not a CSV: {error}") from None


def _as_csv(table: Path) -> str:
    """The text of an HDF5 table, whose CSV has the same rows."""
    try:
        import pandas
        import tables  # noqa: F401  pandas reads HDF5 by it
    except ImportError:
        raise ValueError(
            f"{table.absolute()} (from source) is HDF5: `pip install kdpose[hdf5]`, or give the "
            "CSV beside it"
        ) from None
    try:
        return str(pandas.read_hdf(table).to_csv())
    except Exception as error:  # tables raises many kinds
        raise ValueError(f"{table.absolute()} (from source) is no table: {error}") from None


def _header(rows: Rows, table: Path) -> tuple[Rows, dict[int, tuple[str, str, str]]]:
    """The rows below the header, and of each column of numbers its individual, part, coordinate."""
    head = {row[0].strip(): row for row in rows[:4] if row[0].strip() in _HEADER}
    if "bodyparts" not in head or "coords" not in head:
        raise ValueError(
            f"{table.absolute()} (from source) must begin with the rows scorer, (individuals,) "
            "bodyparts and coords"
        )
    animals = head.get("individuals")
    columns = {
        c: (animals[c].strip() if animals else "", head["bodyparts"][c].strip(), kind.strip())
        for c, kind in enumerate(head["coords"])
        if kind.strip() in ("x", "y", "likelihood") and c < len(head["bodyparts"])
    }
    known = {animal for animal, _, _ in columns.values()}
    if not columns:
        raise ValueError(f"{table.absolute()} (from source): 'coords' must be x, y (, likelihood)")
    if known != {"single"}:
        columns = {c: (a if a != "single" else "", p, k) for c, (a, p, k) in columns.items()}
    width = max(columns) + 1
    body = rows[rows.index(head["coords"]) + 1 :]
    return [row + [""] * (width - len(row)) for row in body if any(row)], columns


def _persons(
    row: Sequence[str],
    columns: dict[int, tuple[str, str, str]],
    table: Path,
    lost: Counter[str],
) -> list[Person]:
    """The individuals of a row that have a point."""
    several = any(animal for animal, _, _ in columns.values())
    values: dict[str, dict[str, dict[str, float]]] = {}
    for c, (animal, part, kind) in columns.items():
        if row[c].strip():
            values.setdefault(animal, {}).setdefault(part, {})[kind] = number(row[c], table)
    found = []
    for animal, parts in values.items():
        complete = {part: at for part, at in parts.items() if "x" in at and "y" in at}
        if several and not animal:
            lost[_LOOSE] += len(complete)
            continue
        points = {
            part: (at["x"], at["y"], confident(at["likelihood"], lost) if "likelihood" in at else 2)
            for part, at in complete.items()
        }
        found += [Person({**points})] * bool(points)
    return found


def _root(table: Path, names: Sequence[str]) -> Path:
    """The nearest folder above a table that has its images."""
    first = next((name for name in names if name), "")
    folders = table.absolute().parents
    if not first or not (root := next((f for f in folders if _has(f, names)), None)):
        raise FileNotFoundError(
            f"no image {first} beside or above {table.absolute()} (from source): set images=FOLDER"
        )
    return root


def _has(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names if name)


def _limbs(source: Path, joints: Sequence[str]) -> list[Any]:
    """The limbs of a project's ``config.yaml`` that join known joints."""
    path = source / "config.yaml"
    if not source.is_dir() or not path.is_file():
        return []
    values = yaml.safe_load(path.read_text("utf-8"))
    listed = values.get("skeleton") if isinstance(values, dict) else None
    pairs = [pair for pair in listed or () if isinstance(pair, list) and len(pair) == 2]
    return [pair for pair in pairs if set(map(str, pair)) <= set(joints)]
