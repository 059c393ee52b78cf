"""COCO-format annotations as arrays of persons; no pixels are read here."""

import logging
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.data.boxes import check_corners, clean_boxes, upright
from kdpose.data.person_table import PersonTable, read_table
from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Persons:
    """N persons of one split, one row each.

    Attributes:
        files: ``(N,)`` image file names, as the annotation file spells them.
        image_id: ``(N,)`` int64.
        image_size: ``(N, 2)`` width and height of the image, pixels.
        box: ``(N, 4)`` x, y, width, height, image pixels.
        box_score: ``(N,)``, 1 for ground truth.
        joints: ``(N, K, 2)`` image pixels; zeros for detections.
        visible: ``(N, K)`` COCO's v; zeros for detections.
        annotation_id: ``(N,)`` ids in the annotation file; None for detections.
        category: ``(N,)`` ids of their categories, -1 for none; None where nothing tells.
        taught: ``(N, K, 2)`` image pixels, a teacher's stored joints; None without a teacher's.
        taught_score: ``(N, K)`` in [0, 1], 0 where the teacher says nothing.
        taught_spread: ``(N, K, 2)`` image pixels, standard deviations of the teacher's
            distributions along x and y, 0 where it says nothing; None without any.
    """

    files: NDArray[np.str_]
    image_id: NDArray[np.int64]
    image_size: NDArray[np.float32]
    box: NDArray[np.float32]
    box_score: NDArray[np.float32]
    joints: NDArray[np.float32]
    visible: NDArray[np.float32]
    annotation_id: NDArray[np.int64] | None = None
    category: NDArray[np.int64] | None = None
    taught: NDArray[np.float32] | None = None
    taught_score: NDArray[np.float32] | None = None
    taught_spread: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Number of persons N."""
        return len(self.image_id)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Persons":
        """Some of the persons."""
        columns: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: None if v is None else v[rows] for n, v in columns.items()}
        return Persons(**taken)


def load_persons(
    annotations: Annotations,
    skeleton: Skeleton,
    key: str = "dataset.annotations",
    unlabelled: bool = False,
    images: str | Path | None = None,
) -> Persons:
    """Read the persons that have a box and at least one labelled joint; crowds are left out.

    How many are left out and why is logged.

    Args:
        annotations: COCO-keypoints JSON, or one that is parsed already.
        skeleton: what the file's joints must agree with in number.
        key: config key of the path, for errors.
        unlabelled: keep persons without a labelled joint too, for a teacher to label.
        images: folder of the image files, for sizes that the file lacks.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it does not fit the skeleton, or nobody in it has a labelled joint.
    """
    path = annotations.path if isinstance(annotations, AnnotationFile) else Path(annotations)
    where = f"{path.absolute()} (from {key})"
    table = read_table(annotations, skeleton, key, where, images)
    table = table._replace(size=upright(table.size, table.place, table.boxes, where))
    rows, boxes = _chosen(table, unlabelled, where)
    joints = np.ascontiguousarray(table.joints[..., :2][rows])
    visible = np.ascontiguousarray(table.joints[..., 2][rows])
    table = table._replace(joints=joints[:0])  # of millions, no copy lives longer than it must
    return _persons(table, rows, boxes, joints, visible)


def _chosen(
    table: PersonTable, unlabelled: bool, where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows ``(M,)`` of the persons to use and their boxes ``(M, 4)``; says who is left out."""
    place, left_out = table.place, table.left_out
    labelled = np.asarray(table.joints[..., 2].any(axis=1))
    wanted = labelled | (place >= 0) if unlabelled else labelled
    left_out["without a labelled joint"] = int(
        ((place >= 0) & ~wanted).sum() - left_out["with an area of 0"]
    )
    rows, boxes = _usable(table.size, place, table.boxes, wanted, left_out)
    _tell_left_out(left_out, len(place), where)
    if not len(rows):
        lacking = "has a labelled joint"
        if left_out.total() > left_out["without a labelled joint"]:
            lacking = f"can be used{_reasons(left_out)}"
        raise ValueError(f"{where}: none of {len(place)} persons {lacking}")
    size = table.size[place[rows]]
    check_corners(boxes.astype(np.float32), size, where)
    return rows, clean_boxes(boxes, size)


def _persons(
    table: PersonTable,
    rows: NDArray[np.int64],
    boxes: NDArray[np.float64],
    joints: NDArray[np.float32],
    visible: NDArray[np.float32],
) -> Persons:
    image = table.place[rows]
    return Persons(
        files=table.names[image],
        image_id=table.ids[image],
        image_size=table.size[image].astype(np.float32),
        box=boxes.astype(np.float32),
        box_score=np.ones(len(rows), dtype=np.float32),
        joints=joints,
        visible=visible,
        annotation_id=table.number[rows],
        category=table.category[rows],
    )


def _usable(
    size: NDArray[np.float64],
    place: NDArray[np.int64],
    boxes: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    left_out: Counter[str],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows ``(M,)`` of the wanted persons that have a box, and their boxes ``(M, 4)``."""
    boxed = wanted & ~np.isnan(boxes[:, 0])
    left_out["without a box"] = int(wanted.sum() - boxed.sum())
    rows = np.flatnonzero(boxed)
    sized = (clean_boxes(boxes[rows], size[place[rows]])[:, 2:] > 0).all(axis=1)
    left_out["with a box outside their image or without an area"] = int((~sized).sum())
    return rows[sized], boxes[rows[sized]]


def _reasons(left_out: Counter[str]) -> str:
    said = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    return f": {said}" if said else ""


def _tell_left_out(left_out: Counter[str], persons: int, where: str) -> None:
    count = left_out.total()
    if count:
        _log.info("%s: %d of %d persons are left out%s", where, count, persons, _reasons(left_out))


def concatenate(*parts: Persons) -> Persons:
    """The persons of several lists as one, in order; what a list lacks, the whole lacks."""
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Persons)}
    full = {n: v for n, v in columns.items() if all(column is not None for column in v)}
    return Persons(**{name: np.concatenate(parts) for name, parts in full.items()})
