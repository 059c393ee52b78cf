"""Boxes against their images: clipped, and checked for two frequent mistakes in files."""

import logging

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_SLACK = 1.0  # pixel: files round
_SEVERAL = 5  # boxes, of fewer more must leave their image
_FAR = 1.1  # of an image's size, which corners taken for sizes go beyond


def clean_boxes(boxes: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip boxes ``(N, 4)`` to their images as HRNet's code does; no size where nothing is left."""
    low = np.maximum(0, boxes[:, :2])
    high = np.minimum(size - 1, low + np.maximum(0, boxes[:, 2:] - 1))
    return np.concatenate([low, high - low], axis=1)


def swapped_sizes(
    size: NDArray[np.float64], place: NDArray[np.int64], boxes: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """``(I,)``: images whose boxes all fit only with width and height exchanged.

    Args:
        size: ``(I, 2)`` width and height.
        place: ``(N,)``, each person's image, -1 for none.
        boxes: ``(N, 4)`` x, y, width, height, NaN for none.
    """
    reach = np.zeros_like(size)
    boxed = (place >= 0) & ~np.isnan(boxes[:, 0])
    np.maximum.at(reach, place[boxed], boxes[boxed, :2] + boxes[boxed, 2:])
    room = size + _SLACK
    beyond, within = (reach > room).any(axis=1), (reach[:, ::-1] <= room).all(axis=1)
    return np.logical_and(beyond, within)


def upright(
    size: NDArray[np.float64],
    place: NDArray[np.int64],
    boxes: NDArray[np.float64],
    where: str,
) -> NDArray[np.float64]:
    """The images' sizes ``(I, 2)``, exchanged where :func:`swapped_sizes` finds them swapped.

    Some releases of CrowdPose's annotations have them swapped, which would cut boxes off.

    Args:
        size: see :func:`swapped_sizes`.
        place: see there.
        boxes: see there.
        where: the file, for the warning.
    """
    swapped = swapped_sizes(size, place, boxes)
    if swapped.any():
        count = swapped.sum()
        _log.warning("%s: %d images have width and height swapped; repaired", where, count)
    return np.where(swapped[:, None], size[:, ::-1], size)


def leaving(boxes: NDArray[np.floating], size: NDArray[np.floating]) -> NDArray[np.bool_]:
    """``(N,)``: boxes x, y, width, height that leave their image to the right or below.

    Args:
        boxes: ``(N, 4)``.
        size: ``(N, 2)`` width and height of their images.
    """
    return np.asarray((boxes[:, :2] + boxes[:, 2:] > size + _SLACK).any(axis=1))


def are_corners(boxes: NDArray[np.floating], size: NDArray[np.floating]) -> bool:
    """Whether boxes are x1, y1, x2, y2: as such they fit, as x, y, width, height many do not.

    Args:
        boxes: ``(N, 4)``.
        size: ``(N, 2)`` width and height of their images.
    """
    if not len(boxes):
        return False
    first, second = boxes[:, :2], boxes[:, 2:]
    fits = ((second > first) & (second <= size + _SLACK)).all(axis=1)
    far = (first + second > _FAR * size).any()  # not merely cut off, of a few persons
    many = 0.3 if len(boxes) >= _SEVERAL else 0.5
    return bool(far and fits.mean() > 0.99 and leaving(boxes, size).mean() > many)


def check_corners(boxes: NDArray[np.floating], size: NDArray[np.floating], where: str) -> None:
    """Refuse boxes that are x1, y1, x2, y2, see :func:`are_corners`.

    Args:
        boxes: ``(N, 4)``.
        size: ``(N, 2)`` width and height of their images.
        where: the file, for the error.

    Raises:
        ValueError: they are, with the counts.
    """
    if are_corners(boxes, size):
        raise ValueError(
            f"{leaving(boxes, size).sum()} of {len(boxes)} boxes of {where} leave their image as "
            "x, y, width, height, and none does as x1, y1, x2, y2: write them as "
            "[x1, y1, x2 - x1, y2 - y1]"
        )
