"""OKS sigmas from labels of the same persons by several people."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from kdpose.data.annotations import Persons
from kdpose.metrics.people import BOX_TO_BODY
from kdpose.skeletons.known import default_sigmas
from kdpose.skeletons.skeleton import Skeleton

_FEWEST = 10  # pairs of labels that make an estimate
_OVERLAP = 0.5  # IoU of two boxes that show the same person


def estimate_sigmas(
    labels: Sequence[Persons], joints: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sigmas as COCO defines them: ``sigma^2 = E[d^2 / s^2]``, d from label to truth, s^2 the area.

    Two people's labels lie sqrt(2) times as far from each other as from the truth, so half of their
    mean squared distance is taken; s^2 is 0.53 of the two boxes' mean.

    Args:
        labels: of the same images by different people, two or more.
        joints: K.

    Returns:
        Sigmas ``(K,)``, nan without a pair, and the numbers of pairs behind them ``(K,)``.
    """
    total, count = np.zeros(joints), np.zeros(joints, np.int64)
    for one, other in combinations(labels, 2):
        a, b = pair_persons(one, other)
        squared = ((one.joints[a].astype(np.float64) - other.joints[b]) ** 2).sum(axis=-1)
        area = BOX_TO_BODY * (one.box[a, 2:].prod(axis=1) + other.box[b, 2:].prod(axis=1)) / 2
        both = (one.visible[a] > 0) & (other.visible[b] > 0)
        total += np.where(both, squared / area[:, None], 0).sum(axis=0)
        count += both.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.sqrt(total / count / 2), count


def pair_persons(one: Persons, other: Persons) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the same persons: boxes of one image, matched for most overlap, of half at least."""
    rows: list[tuple[int, int]] = []
    for name in np.intersect1d(one.files, other.files):
        a, b = np.flatnonzero(one.files == name), np.flatnonzero(other.files == name)
        overlap = _iou(one.box[a], other.box[b])
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] >= _OVERLAP:
                rows.append((int(a[i]), int(b[j])))
    pairs = np.array(rows, dtype=np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(N, M)`` of boxes x, y, width, height."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1)[None]
    return np.asarray(shared / (areas - shared), np.float64)


def with_estimates(
    skeleton: Skeleton, sigmas: NDArray[np.float64], count: NDArray[np.int64]
) -> Skeleton:
    """The skeleton with these sigmas; joints of fewer than ten pairs keep the default.

    Raises:
        ValueError: no joint has ten pairs, or labels agree to the pixel, so that they are copies.
    """
    enough = count >= _FEWEST
    if not enough.any():
        raise ValueError(
            f"no joint was labelled {_FEWEST} times by two people, at most {count.max(initial=0)} "
            "times: annotations must show the same persons under the same file names"
        )
    if not (sigmas[enough] > 0).all():
        joint = skeleton.joints[int(np.flatnonzero(enough & ~(sigmas > 0))[0])]
        raise ValueError(f"all labels of '{joint}' agree exactly: the files repeat one annotator")
    chosen = np.where(enough, sigmas, default_sigmas(skeleton.joints))
    return replace(
        skeleton, sigmas=tuple(float(sigma) for sigma in chosen), sigma_source="estimated"
    )


def sigma_table(skeleton: Skeleton, count: NDArray[np.int64]) -> Table:
    """A row per joint: its sigma, and the pairs of labels behind it."""
    table = Table("joint", "sigma", "pairs", box=box.SIMPLE)
    for joint, sigma, n in zip(skeleton.joints, skeleton.sigmas, count, strict=True):
        table.add_row(joint, f"{sigma:.4f}", f"{n}" if n >= _FEWEST else f"{n}, default")
    return table
