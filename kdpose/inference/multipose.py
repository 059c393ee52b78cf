"""The bundled person detector: MoveNet MultiPose, which needs no download."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.ops import nms

from kdpose.runtime.onnx_session import open_session

FILE = Path(__file__).parent / "bundled" / "movenet_multipose.onnx"
_SIDE = 256  # pixels of the longer side that the network sees; its authors' choice
_STEP = 32  # both sides are multiples of it
_TILE = 0.6  # side of a tile as a share of the picture's; two in a row overlap
_TILED = 320  # pixels of the longer side above which tiles show more than the whole picture
_EDGE = 1 / 160  # of the tile's longer side: nearer to a cut, a box is taken for half a person
_OVERLAP = 0.5  # IoU above which the weaker of two boxes is the same person's

Boxes = tuple[NDArray[np.float32], NDArray[np.float32]]


class MultiPoseDetector:
    """Finds persons' boxes in the whole picture and in four overlapping tiles of it.

    The network returns at most six persons and reads 256 pixels, so tiles find small persons and
    more of them.

    Args:
        threshold: boxes with a lower score are left out. On photographs of COCO, 0.1 finds two of
            three persons with 1.1 boxes a person.
        file: the network; the bundled one by default.
    """

    def __init__(self, threshold: float = 0.1, file: Path = FILE) -> None:
        self.threshold = threshold
        self._session = open_session(file, str(file), threads=0)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, picture: Image.Image) -> Boxes:
        """Boxes ``(P, 4)`` x, y, width, height in image pixels, best first, and scores ``(P,)``."""
        views = [(0, 0, *picture.size)]
        if max(picture.size) > _TILED:
            views += _tiles(*picture.size)
        found = [self._view(picture, view) for view in views]
        corners = np.concatenate([boxes for boxes, _ in found])
        scores = np.concatenate([score for _, score in found])
        kept = nms(torch.from_numpy(corners), torch.from_numpy(scores), _OVERLAP).numpy()
        boxes = corners[kept]
        boxes[:, 2:] -= boxes[:, :2]
        return boxes, scores[kept]

    def _view(self, picture: Image.Image, view: tuple[int, int, int, int]) -> Boxes:
        """Corners ``(P, 4)``, image pixels, and scores of the persons in a part of the picture."""
        left, top, right, bottom = view
        width, height = right - left, bottom - top
        scale = _SIDE / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        outer = [-(-side // _STEP) * _STEP for side in inner]
        pixels = np.zeros((1, outer[1], outer[0], 3), np.int32)
        part = picture.resize(inner, Image.Resampling.BILINEAR, box=view)
        pixels[0, : inner[1], : inner[0]] = np.asarray(part)
        (persons,) = self._session.run(None, {self._input: pixels})[0]
        unit = np.array([outer[0] * width / inner[0], outer[1] * height / inner[1]] * 2)
        corners = (persons[:, [52, 51, 54, 53]] * unit).astype(np.float32)
        corners = corners.clip(0, np.array([width, height] * 2, np.float32))
        solid = (corners[:, 2:] > corners[:, :2]).all(axis=1)
        whole = ~_cut(corners, view, picture.size)
        kept = solid & whole & (persons[:, 55] >= self.threshold)
        return corners[kept] + np.array([left, top] * 2, np.float32), persons[kept, 55]


def _tiles(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Two by two parts of a picture as corners, pixels."""
    w, h = round(_TILE * width), round(_TILE * height)
    return [(x, y, x + w, y + h) for x in (0, width - w) for y in (0, height - h)]


def _cut(
    corners: NDArray[np.float32], view: tuple[int, int, int, int], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Boxes ``(P,)`` that end where the view ends and the picture goes on."""
    left, top, right, bottom = view
    slack = _EDGE * max(right - left, bottom - top)
    inner = (left > 0, top > 0, right < size[0], bottom < size[1])
    ends = np.stack(
        [
            corners[:, 0] < slack,
            corners[:, 1] < slack,
            corners[:, 2] > right - left - slack,
            corners[:, 3] > bottom - top - slack,
        ]
    )
    return (ends & np.array(inner)[:, None]).any(axis=0)
