"""From a crop's joints to a person's result: image coordinates, instance scores, OKS-NMS."""

from collections.abc import Sequence

import numpy as np


def image_joints(
    joints: np.ndarray, center: np.ndarray, size: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Map joints from crop pixels back to image pixels.

    The crop is isotropic, so the width alone sets the scale of both axes; with no rotation the
    inverse of ``x' = (x - c_x) W / w + W / 2`` is ``x = c_x + (x' - W / 2) w / W``.

    Args:
        joints: ``(N, K, 2)``, (x, y), crop pixels.
        center: ``(N, 2)``, centre of the cropped region, image pixels.
        size: ``(N, 2)``, width and height of the cropped region, image pixels.
        input_size: width and height of the network input, pixels.

    Returns:
        Joints ``(N, K, 2)``, image pixels.
    """
    width, height = input_size
    middle = np.array([width / 2, height / 2], dtype=joints.dtype)
    return center[:, None] + (joints - middle) * (size[:, None, :1] / width)


def instance_scores(
    joint_scores: np.ndarray, box_scores: np.ndarray, threshold: float = 0.2
) -> np.ndarray:
    """Box score times the mean of the joint scores above the threshold.

    The rule of the HRNet and SimCC evaluation: 0 if no joint is above the threshold.

    Args:
        joint_scores: ``(N, K)``.
        box_scores: ``(N,)``.
        threshold: a joint counts if its score is above this.

    Returns:
        Scores ``(N,)``.
    """
    counted = joint_scores > threshold
    total = np.where(counted, joint_scores, 0).sum(axis=1)
    return box_scores * total / np.maximum(counted.sum(axis=1), 1)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
) -> list[int]:
    """Greedy suppression of duplicate persons in one image.

    A person is dropped if its OKS with a kept one is above the threshold:
    ``mean_k exp(-e_k)``, ``e_k = d_k^2 / (2 sigma_k)^2 / ((a_i + a_j) / 2 + eps) / 2`` over all
    joints, as in HRNet's evaluation. Equal scores keep their order.

    Args:
        keypoints: ``(N, K, 2)``, image pixels.
        scores: ``(N,)``.
        areas: ``(N,)``, square image pixels.
        sigmas: ``(K,)`` OKS constants.
        threshold: largest OKS at which two persons are both kept.

    Returns:
        Indices of the kept persons, best first.
    """
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    points = keypoints.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        squared = ((points[order] - points[best]) ** 2).sum(axis=-1)
        scale = (areas[order] + areas[best]) / 2 + np.spacing(1)
        oks = np.exp(-squared / variances / scale[:, None] / 2).mean(axis=1)
        order = order[oks <= threshold]
    return kept
