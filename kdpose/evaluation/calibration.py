"""Scores as probabilities: how often joints of a score are where they should be.

A joint is *within reach* if its OKS similarity is 0.5 or more. Two numbers turn a network's score s
into the probability of that, sigmoid(a ln s + b) (Platt scaling of the score's logarithm).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize

from kdpose.checkpoints.load import Loaded
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset
from kdpose.evaluation.evaluate import predict_poses

_AREA = 0.53  # of a box, what a person covers of it in COCO
_REACH = 0.5  # OKS similarity
_LEAST = 1e-6  # as in the network
_BINS = 10


class ScoredJoints(NamedTuple):
    """Joints of labelled persons.

    Attributes:
        scores: ``(N,)``.
        right: ``(N,)``, whether the joint is within reach.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]


class Curve(NamedTuple):
    """Joints in bins of equal numbers.

    Attributes:
        score: ``(B,)`` mean score.
        share: ``(B,)`` share of the joints within reach.
        joints: ``(B,)`` how many.
    """

    score: NDArray[np.float64]
    share: NDArray[np.float64]
    joints: NDArray[np.int64]


def scored_joints(
    loaded: Loaded,
    annotations: str,
    images: str,
    *,
    flip: bool = True,
    **options: Any,
) -> ScoredJoints:
    """Predict a split's labelled persons in their ground-truth boxes.

    Args:
        loaded: the network.
        annotations: annotation file.
        images: folder of its images.
        flip: average with the mirrored crop.
        **options: of :func:`predict_poses`.
    """
    skeleton = loaded.net.skeleton
    persons = load_persons(annotations, skeleton, "annotations")
    dataset = PoseDataset(persons, images, skeleton, loaded.net.codec.input_size)
    found = predict_poses(loaded.net, dataset, flip=flip, **options)
    labelled = persons.visible > 0
    area = _AREA * persons.box[:, 2:].prod(axis=1)
    right = within_reach(found.keypoints, persons.joints, area, skeleton.sigmas)
    return ScoredJoints(found.joint_scores[labelled].astype(np.float64), right[labelled])


def within_reach(
    joints: NDArray[np.floating],
    truth: NDArray[np.floating],
    area: NDArray[np.floating],
    sigmas: Sequence[float],
) -> NDArray[np.bool_]:
    """Whether ``exp(-d^2 / (2 area (2 sigma)^2))`` is 0.5 or more, for each joint ``(N, K)``.

    Args:
        joints: ``(N, K, 2)``, image pixels.
        truth: ``(N, K, 2)``, image pixels.
        area: ``(N,)``, square image pixels.
        sigmas: K OKS constants.
    """
    squared = ((joints.astype(np.float64) - truth) ** 2).sum(axis=-1)
    spread = 2 * area[:, None] * (2 * np.asarray(sigmas)) ** 2
    within: NDArray[np.bool_] = np.exp(-squared / spread) >= _REACH
    return within


def fit(joints: ScoredJoints) -> tuple[float, float]:
    """Slope and offset of the greatest likelihood.

    Raises:
        ValueError: all joints are within reach, or none is.
    """
    right = joints.right.astype(np.float64)
    if not 0 < right.mean() < 1:
        raise ValueError(
            f"{int(right.sum())} of {len(right)} joints are within reach: no scores to calibrate on"
        )
    logs = np.log(joints.scores.clip(_LEAST))
    center, scale = logs.mean(), max(logs.std(), _LEAST)
    unit = (logs - center) / scale  # so that both numbers are of order 1

    def loss(values: NDArray[np.float64]) -> float:
        line = values[0] * unit + values[1]
        return float(np.logaddexp(0, line).mean() - (right * line).mean())

    slope, offset = minimize(loss, np.zeros(2), method="BFGS").x
    return float(slope / scale), float(offset - slope * center / scale)


def calibrate(scores: NDArray[np.float64], slope: float, offset: float) -> NDArray[np.float64]:
    """The probabilities of scores, as the network computes them."""
    values: NDArray[np.float64] = 1 / (1 + scores.clip(_LEAST) ** -slope * np.exp(-offset))
    return values


def curve(joints: ScoredJoints, bins: int = _BINS) -> Curve:
    """Share of joints within reach by their score."""
    parts = np.array_split(np.argsort(joints.scores, kind="stable"), bins)
    parts = [part for part in parts if len(part)]
    return Curve(
        np.array([joints.scores[part].mean() for part in parts]),
        np.array([joints.right[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )


def save_curve(joints: ScoredJoints, path: Path) -> None:
    """Draw the share of joints within reach against their score."""
    found = curve(joints)
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="as it should be")
    axes.plot(found.score, found.share, marker="o", label=f"{found.joints.sum()} joints")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share of joints within OKS' reach")
    axes.set_aspect("equal")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
