"""SLEAP: analysis CSV, and ``.slp`` or ``.pkg.slp``, which are HDF5."""

import csv
import math
from collections import Counter
from pathlib import Path
from typing import Any

from kdpose.formats.persons import Person, Picture, by_number, coco_file, confident, named, number
from kdpose.formats.sleap_file import SleapFile
from kdpose.skeletons.skeleton import Skeleton

_NO_FRAME = "persons are of frames that the folder of images does not have, and are left out"


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read labels or predictions.

    Where a frame of an ``.slp`` has persons labelled by hand, its predictions are left out.

    Args:
        source: the analysis CSV, ``.slp`` or ``.pkg.slp``.
        images: folder of the video's frames, whose names end in their number from 0; of a
            ``.pkg.slp``, the folder that its frames are written to.
        skeleton: joints and their order; None: the file's.
    """
    if not source.is_file():
        raise FileNotFoundError(f"no SLEAP file at {source.absolute()} (from source)")
    lost = Counter[str]()
    if source.suffix.lower() == ".csv":
        pictures, joints = _from_csv(source, images, lost)
        found = skeleton or named(joints, "sleap")
    else:
        with SleapFile(source) as file:
            pictures = file.pictures(images, lost)
            found = skeleton or named(file.joints, "sleap", file.limbs, file.flip_pairs or None)
    return coco_file(source, pictures, found, images, lost)


def _from_csv(
    source: Path, images: Path | None, lost: Counter[str]
) -> tuple[list[Picture], list[str]]:
    """The persons of a table: ``track, frame_idx, instance.score``, then x, y, score of each."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            rows, columns = list(table), list(table.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{source.absolute()} (from source) is not a CSV: {error}") from None
    joints = [c.removesuffix(".x") for c in columns if c.endswith(".x")]
    if "frame_idx" not in columns or not joints:
        raise ValueError(
            f"{source.absolute()} (from source) is no analysis CSV of SLEAP: it needs the columns "
            "frame_idx and NODE.x, NODE.y"
        )
    names, pictures = by_number(images, source), dict[str, Picture]()
    for row in rows:
        name = names.get(int(number(row["frame_idx"] or "-1", source)))
        if name is None:
            lost[_NO_FRAME] += 1
            continue
        points = {}
        for joint in joints:
            x, y = number(row[f"{joint}.x"], source), number(row.get(f"{joint}.y"), source)
            score = number(row.get(f"{joint}.score"), source)
            if math.isfinite(x) and math.isfinite(y):
                points[joint] = (x, y, 2.0 if math.isnan(score) else confident(score, lost))
        pictures.setdefault(name, Picture(name, [])).persons.append(Person(points))
    return list(pictures.values()), joints
