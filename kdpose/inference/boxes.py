"""Person boxes from a detector, from a file, or of the whole image."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import nms

from kdpose.data.boxes import check_corners, clean_boxes
from kdpose.data.detections import read_boxes
from kdpose.inference.detector import DetectorChoice, load_detector
from kdpose.inference.multipose import Boxes
from kdpose.runtime.annotation_file import say_once

# returns boxes (P, 4) x, y, width, height, image pixels, and scores (P,) of a picture and its id
BoxSource = Callable[[Image.Image, int], Boxes]


def whole_image(picture: Image.Image, image_id: int) -> Boxes:
    """One box that covers the picture."""
    box = np.array([[0, 0, picture.width, picture.height]], np.float32)
    return box, np.ones(1, np.float32)


class BoxCut(NamedTuple):
    """Which detections of a file are used; detectors write about 100 an image.

    Attributes:
        score: boxes with a lower score are left out.
        overlap: of two boxes with a higher IoU, the one with the lower score is left out.
    """

    score: float = 0.5
    overlap: float = 0.5


BOX_CUT = BoxCut()


class FileBoxes:
    """The boxes of a detections JSON, or of a COCO annotation file, clipped as in evaluation.

    Args:
        path: ``[{image_id, bbox, score}]``, or a file with such ``annotations``; a video's frames
            count from 0.
        ids: of the pictures, at least one of which must have a box; None if unknown.
        cut: of detections; boxes of an annotation file, or without scores, are all used.
        category: the name or id of the only category to take; None: see :func:`read_boxes`.
        folder: of an annotation file's images, for sizes that it lacks.
        sizes: width and height of pictures by id, as far as known, which tell corners.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has no boxes, or none for these pictures, or they are corners.
    """

    def __init__(
        self,
        path: str,
        ids: Collection[int] | None = None,
        cut: BoxCut = BOX_CUT,
        category: str | int | None = None,
        folder: str | None = None,
        sizes: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        self._table = read_boxes(path, annotated=True, category=category, images=folder)
        known = self._table.image_id.tolist()
        mine = set(known if ids is None else ids)
        others = sum(i not in mine for i in known)
        if ids is not None and others == len(known):
            raise ValueError(
                f"no box of {self._table.where} belongs to the {len(ids)} images of source: their "
                f"ids are {sorted(ids)[:3]} ..."
            )
        if others:
            say_once(
                f"{self._table.where}: {others} boxes of images that source lacks are left out"
            )
        self._check_corners(sizes or {})
        rows: defaultdict[int, list[int]] = defaultdict(list)
        for row, image_id in enumerate(known):
            if image_id in mine:
                rows[image_id].append(row)
        self._rows = {image_id: np.array(its, np.int64) for image_id, its in rows.items()}
        if self._table.scored and not self._table.annotated:
            self._rows = {image_id: self._kept(its, cut) for image_id, its in self._rows.items()}
            self._say_cut(np.concatenate([*rows.values()]), cut)

    def _check_corners(self, sizes: Mapping[int, tuple[int, int]]) -> None:
        rows = [n for n, i in enumerate(self._table.image_id.tolist()) if i in sizes]
        size = [sizes[i] for i in self._table.image_id[rows].tolist()]
        check_corners(self._table.box[rows], np.array(size).reshape(-1, 2), self._table.where)

    def __call__(self, picture: Image.Image, image_id: int) -> Boxes:
        """The boxes of a picture, empty if the file has none."""
        rows, boxes = self._chosen(picture.size, image_id)
        return boxes.astype(np.float32), self._table.score[rows]

    def categories(self, size: tuple[int, int], image_id: int) -> list[int]:
        """The category of each box of a picture of this width and height, 1 for none."""
        rows, _ = self._chosen(size, image_id)
        return [kind if kind >= 0 else 1 for kind in self._table.category[rows].tolist()]

    def _chosen(
        self, size: tuple[int, int], image_id: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows ``(P,)`` of a picture's boxes in the table, and the boxes ``(P, 4)``."""
        rows = self._rows.get(image_id, np.zeros(0, np.int64))
        boxes = self._table.box[rows]
        if self._table.annotated:
            boxes = clean_boxes(boxes, np.array(size, np.float64))
            sized = (boxes[:, 2:] > 0).all(axis=1)
            if not sized.all():
                say_once(
                    f"{self._table.where}: {(~sized).sum()} boxes of image {image_id} have no "
                    "extent inside it and are left out"
                )
            rows, boxes = rows[sized], boxes[sized]
        return rows, boxes

    def _kept(self, rows: NDArray[np.int64], cut: BoxCut) -> NDArray[np.int64]:
        """Rows of a picture's boxes that a cut leaves, in their order."""
        sure = rows[self._table.score[rows] >= cut.score]
        boxes = self._table.box[sure]
        corners = torch.from_numpy(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]))
        best = nms(corners, torch.from_numpy(self._table.score[sure]).double(), cut.overlap)
        return np.sort(sure[best.numpy()])

    def _say_cut(self, rows: NDArray[np.int64], cut: BoxCut) -> None:
        """Say how many boxes a cut leaves out, and why."""
        low = int((self._table.score[rows] < cut.score).sum())
        beside = len(rows) - low - sum(map(len, self._rows.values()))
        why = [f"{low} have scores below {cut.score:g} (detector.threshold)"] if low else []
        why += [f"{beside} overlap better ones (boxes_overlap)"] if beside else []
        if why:
            say_once(f"{self._table.where}: boxes left out: {', '.join(why)}")


def box_source(
    boxes: str,
    detector: DetectorChoice,
    device: torch.device,
    ids: Collection[int] | None = None,
    cut: BoxCut = BOX_CUT,
    category: str | int | None = None,
    folder: str | None = None,
    sizes: Mapping[int, tuple[int, int]] | None = None,
) -> BoxSource:
    """Select the source of boxes.

    Args:
        boxes: ``detector`` (also spelt ``auto``), ``whole``, or the path of a JSON file.
        detector: used if ``boxes`` asks for it.
        device: of the detector.
        ids: of the pictures, None if unknown.
        cut: of a file's detections.
        category: see :class:`FileBoxes`.
        folder: see :class:`FileBoxes`.
        sizes: see there.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file does not fit, or a category is asked for without one.
    """
    if category is not None and boxes in ("whole", "auto", "detector"):
        raise ValueError(
            f"category={category} chooses among the boxes of a file: set boxes=FILE.json"
        )
    if boxes == "whole":
        return whole_image
    if boxes in ("auto", "detector"):
        find = load_detector(detector, device)
        return lambda picture, image_id: find(picture)
    return FileBoxes(boxes, ids, cut, category, folder, sizes)
