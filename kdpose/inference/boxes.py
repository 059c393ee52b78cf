"""Person boxes from a detector, from a file, or of the whole image."""

from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kdpose.data.annotations import read_json
from kdpose.data.boxes import clean_boxes
from kdpose.inference.detector import DetectorChoice, load_detector
from kdpose.inference.multipose import Boxes

_PERSON = 1  # COCO's and CrowdPose's category
# returns boxes (P, 4) x, y, width, height, image pixels, and scores (P,) of a picture and its id
BoxSource = Callable[[Image.Image, int], Boxes]


def whole_image(picture: Image.Image, image_id: int) -> Boxes:
    """One box that covers the picture."""
    box = np.array([[0, 0, picture.width, picture.height]], np.float32)
    return box, np.ones(1, np.float32)


class FileBoxes:
    """The boxes of a detections JSON, or of a COCO annotation file, clipped as in evaluation.

    Args:
        path: ``[{image_id, bbox, score}]``, or a file with such ``annotations``; a video's frames
            count from 0.
        ids: of the pictures, at least one of which must have a box; None if unknown.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has no boxes, or none for these pictures.
    """

    def __init__(self, path: str, ids: Collection[int] | None = None) -> None:
        content = read_json(path, "boxes")
        self._annotated = isinstance(content, dict)
        rows = content.get("annotations") if self._annotated else content
        where = f"{Path(path).absolute()} (from boxes)"
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and {"image_id", "bbox"} <= row.keys() for row in rows
        ):
            raise ValueError(f"{where} must be a list of {{image_id, bbox, score}}")
        self._rows: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            if _is_person(row):
                self._rows[int(row["image_id"])].append(row)
        if ids is not None and not self._rows.keys() & set(ids):
            raise ValueError(
                f"no box of {where} belongs to the {len(ids)} images of source: their ids are "
                f"{sorted(ids)[:3]} ..."
            )

    def __call__(self, picture: Image.Image, image_id: int) -> Boxes:
        """The boxes of a picture, empty if the file has none."""
        rows = self._rows.get(image_id, [])
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        scores = np.array([row.get("score", 1.0) for row in rows], np.float32)
        if self._annotated:
            boxes = clean_boxes(boxes, np.array(picture.size, np.float64))
            sized = (boxes[:, 2:] > 0).all(axis=1)
            boxes, scores = boxes[sized], scores[sized]
        return boxes.astype(np.float32), scores


def _is_person(row: dict[str, Any]) -> bool:
    person = row.get("category_id", _PERSON) == _PERSON and not row.get("iscrowd")
    return person and min(row["bbox"][2:]) > 0


def box_source(
    boxes: str,
    detector: DetectorChoice,
    device: torch.device,
    ids: Collection[int] | None = None,
) -> BoxSource:
    """Select the source of boxes.

    Args:
        boxes: ``detector`` (also spelt ``auto``), ``whole``, or the path of a JSON file.
        detector: used if ``boxes`` asks for it.
        device: of the detector.
        ids: of the pictures, None if unknown.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit.
    """
    if boxes == "whole":
        return whole_image
    if boxes in ("auto", "detector"):
        find = load_detector(detector, device)
        return lambda picture, image_id: find(picture)
    return FileBoxes(boxes, ids)
