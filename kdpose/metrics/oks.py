"""Object keypoint similarity person by person, and what a guess without looking reaches."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

Rows = NDArray[np.intp]


def person_oks(
    joints: NDArray[np.floating],
    truth: NDArray[np.floating],
    visible: NDArray[np.floating],
    area: NDArray[np.floating],
    sigmas: Sequence[float],
) -> NDArray[np.float64]:
    """Mean over a person's labelled joints of ``exp(-d_k^2 / (2 area (2 sigma_k)^2))``.

    Args:
        joints: ``(N, K, 2)``, image pixels.
        truth: ``(N, K, 2)``, image pixels.
        visible: ``(N, K)``, COCO's v; joints of 0 do not count.
        area: ``(N,)``, square image pixels.
        sigmas: K OKS constants.

    Returns:
        ``(N,)`` in [0, 1], nan for persons without a labelled joint.

    Raises:
        ValueError: shapes do not fit.
    """
    if joints.shape != truth.shape or joints.shape[:2] != (*area.shape, len(sigmas)):
        raise ValueError(
            f"joints and truth must be (N, K, 2) with N areas and K sigmas, got {joints.shape}, "
            f"{truth.shape}, {len(area)} areas and {len(sigmas)} sigmas"
        )
    squared = ((joints.astype(np.float64) - truth) ** 2).sum(axis=-1)
    variances = (2 * np.asarray(sigmas)) ** 2
    similarity = np.exp(-squared / variances / (area[:, None] + np.spacing(1)) / 2)
    labelled = visible > 0
    count = labelled.sum(axis=1)
    mean = (similarity * labelled).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def mean_pose(
    joints: NDArray[np.floating], visible: NDArray[np.floating], box: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The mean of labelled joints in shares of their persons' boxes.

    Put into a box, it is the best guess of one who does not look at the image. A joint that nobody
    labelled is guessed at the middle.

    Args:
        joints: ``(N, K, 2)``, image pixels.
        visible: ``(N, K)``, COCO's v.
        box: ``(N, 4)`` x, y, width, height, image pixels.

    Returns:
        ``(K, 2)``, 0 at the box's top left corner and 1 at its bottom right one.
    """
    labelled = (visible > 0)[..., None]
    place = (joints - box[:, None, :2]) / box[:, None, 2:]
    count = labelled.sum(axis=0)
    total = np.where(labelled, place, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def best_boxes(
    truth: NDArray[np.float32], truth_image: Rows, boxes: NDArray[np.float32], image: Rows
) -> tuple[Rows, Rows]:
    """For each person the box of its image that overlaps it most; those without one are left out.

    Args:
        truth: ``(N, 4)`` x, y, width, height of the persons.
        truth_image: ``(N,)`` ids of their images.
        boxes: ``(M, 4)``.
        image: ``(M,)``.

    Returns:
        Rows of ``truth`` and, for each, the row of ``boxes``.
    """
    pairs: list[tuple[Rows, Rows]] = [(np.zeros(0, np.intp), np.zeros(0, np.intp))]
    for each in np.unique(image):
        persons, seen = np.flatnonzero(truth_image == each), np.flatnonzero(image == each)
        overlap = box_iou(_corners(truth[persons]), _corners(boxes[seen])).numpy()
        found = overlap.max(axis=1) > 0
        pairs.append((persons[found], seen[overlap.argmax(axis=1)[found]]))
    rows, best = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return rows, best


def _corners(box: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]))
