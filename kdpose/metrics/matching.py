"""COCO's matching of found poses to labelled persons, all images of a kind at once.

The rules are those of pycocotools' evaluator (``evaluateImg``): in each image poses choose in the
order of their scores, the best :data:`MAX_DETECTIONS` alone; a pose takes the free person of
highest OKS at or above the threshold, the later one where two are equal, and a person that is
ignored only where no other is left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdpose.metrics.people import Floats, FoundPoses, LabelledPersons

MAX_DETECTIONS = 20  # of an image, the best; COCO's and CrowdPose's
THRESHOLDS = np.linspace(0.5, 0.95, 10)
ALL = (0.0, 1e10)  # square pixels
MEDIUM = (32.0**2, 96.0**2)
LARGE = (96.0**2, 1e10)
_PAIRS = 16_384  # poses times persons that are compared at once: what a processor's cache holds
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Which of D poses found a person, at T = 10 OKS thresholds, in I images.

    Attributes:
        image: ``(D,)`` row of the pose's image; poses come best score first.
        hit: ``(T, D)`` whether it found a person that counts.
        miss: ``(T, D)`` whether it found nobody; neither, where it found an ignored person.
        persons: ``(I,)`` how many persons count.
        best_oks: ``(I,)`` mean over these of the best pose's OKS; NaN where there are none.
    """

    image: Rows
    hit: NDArray[np.bool_]
    miss: NDArray[np.bool_]
    persons: Rows
    best_oks: Floats


def match_persons(
    truth: LabelledPersons,
    found: FoundPoses,
    image_ids: Sequence[int],
    sigmas: Sequence[float],
    areas: Sequence[tuple[float, float]] = (ALL,),
) -> list[Matches]:
    """Match once, for persons of each range of areas.

    Args:
        truth: persons.
        found: poses; those in other images are left out.
        image_ids: I images, ascending.
        sigmas: K OKS constants.
        areas: A ranges, square pixels; persons and poses outside are ignored.
    """
    ids = np.asarray(image_ids, np.int64)
    (persons, owner), (poses, seen) = _in_images(truth.image, ids), _best_poses(found, ids)
    ignored = truth.ignored[persons] | _outside(truth.area[persons], areas)  # (A, G)
    shape = (len(areas), len(THRESHOLDS), len(poses))
    hit, matched = np.zeros(shape, bool), np.zeros(shape, bool)
    best = np.zeros((len(areas), len(ids)))
    for images, table in _tables(owner, seen, len(ids)):
        oks = _oks(truth, found, persons, poses, table, sigmas)
        ign = ignored[:, table.persons] | ~table.is_person  # (A, I, G)
        crowd = truth.crowd[persons][table.persons] & table.is_person
        taken, counted = _match(oks, ign, crowd)  # (A, T, I, P) each
        there = table.is_pose
        matched[..., table.poses[there]] = taken[..., there]
        hit[..., table.poses[there]] = counted[..., there]
        best[:, images] = np.where(ign, 0.0, oks.max(axis=1)).sum(axis=-1)
    miss = ~matched & ~_outside(found.area[poses], areas)[:, None]
    order = np.argsort(-found.score[poses], kind="stable")
    counts = np.stack([np.bincount(owner[~row], minlength=len(ids)) for row in ignored])
    with np.errstate(invalid="ignore"):  # nobody to find: NaN
        means = best / counts
    return [
        Matches(seen[order], hit[a][:, order], miss[a][:, order], counts[a], means[a])
        for a in range(len(areas))
    ]


def _outside(area: Floats, ranges: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
    """``(A, N)`` which of N areas lie outside each range."""
    low, high = np.array(ranges).T[..., None]
    return (area < low) | (area > high)


def _in_images(image: Rows, ids: Rows) -> tuple[Rows, Rows]:
    """Those in the images, image after image: their rows and the rows of their images."""
    row = np.searchsorted(ids, image)
    kept = np.flatnonzero((row < len(ids)) & (ids[np.minimum(row, len(ids) - 1)] == image)
                          if len(ids) else np.zeros(len(image), bool))  # fmt: skip
    order = kept[np.argsort(row[kept], kind="stable")]
    return order, row[order]


def _best_poses(found: FoundPoses, ids: Rows) -> tuple[Rows, Rows]:
    """Each image's best poses, best first: their rows and the rows of their images."""
    kept, row = _in_images(found.image, ids)
    order = np.lexsort((-found.score[kept], row))
    kept, row = kept[order], row[order]
    first = np.searchsorted(row, row, side="left")
    best = np.arange(len(row)) - first < MAX_DETECTIONS
    return kept[best], row[best]


@dataclass(frozen=True)
class _Table:
    """Some images with their P poses and G persons each, filled up to the most that one has.

    Attributes:
        poses, is_pose: ``(I, P)`` place among the poses, and whether there is one.
        persons, is_person: ``(I, G)``.
    """

    poses: Rows
    is_pose: NDArray[np.bool_]
    persons: Rows
    is_person: NDArray[np.bool_]


def _tables(owner: Rows, seen: Rows, images: int) -> Iterator[tuple[Rows, _Table]]:
    """The images that have both, those of alike numbers of persons together."""
    persons = np.bincount(owner, minlength=images)
    poses = np.bincount(seen, minlength=images)
    first_person, first_pose = persons.cumsum() - persons, poses.cumsum() - poses
    both = np.flatnonzero((persons > 0) & (poses > 0))
    both = both[np.lexsort((poses[both], persons[both]))]
    start = 0
    while start < len(both):
        size = persons[both[start:]] * MAX_DETECTIONS * np.arange(1, len(both) - start + 1)
        end = start + max(1, int(np.searchsorted(size, _PAIRS, side="right")))
        part = both[start:end]
        start = end
        yield (
            part,
            _Table(
                *_filled(first_pose[part], poses[part]), *_filled(first_person[part], persons[part])
            ),
        )


def _filled(first: Rows, count: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """``(I, most)`` places from ``first`` on, and which of them there are."""
    steps = np.arange(count.max())
    there = steps < count[:, None]
    return np.where(there, first[:, None] + steps, 0), there


def _oks(
    truth: LabelledPersons,
    found: FoundPoses,
    persons: Rows,
    poses: Rows,
    table: _Table,
    sigmas: Sequence[float],
) -> Floats:
    """``(I, P, G)``, -1 where there is no such pair.

    A person without a labelled joint is compared by how far joints lie beyond its box, doubled.
    """
    rows = persons[table.persons]
    apart = found.joints[poses[table.poses]][:, :, None] - truth.joints[rows][:, None]
    labelled = truth.visible[rows] > 0  # (I, G, K)
    unlabelled = ~labelled.any(axis=-1) & table.is_person
    if unlabelled.any():
        image, person = np.nonzero(unlabelled)
        box = truth.box[rows[image, person]][:, None, None]
        place = found.joints[poses[table.poses]][image]  # (N, P, K, 2)
        low, high = box[..., :2] - box[..., 2:], box[..., :2] + 2 * box[..., 2:]
        beyond = np.maximum(0, low - place) + np.maximum(0, place - high)
        apart[image, :, person] = beyond
        labelled = labelled | unlabelled[..., None]
    squared = np.square(apart, out=apart).sum(axis=-1)
    squared /= (2 * np.asarray(sigmas)) ** 2
    squared /= (truth.area[rows][:, None, :, None] + np.spacing(1)) * -2
    similarity = np.exp(squared, out=squared)
    similarity *= labelled[:, None]
    oks = similarity.sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1)[:, None]
    return np.where(table.is_pose[..., None] & table.is_person[:, None], oks, -1.0)


def _match(
    oks: Floats, ignored: NDArray[np.bool_], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Let poses choose in turn.

    Args:
        oks: ``(I, P, G)``.
        ignored: ``(A, I, G)``.
        crowd: ``(I, G)``.

    Returns:
        ``(A, T, I, P)``: whether a pose took a person, and whether one that counts.
    """
    areas, images, persons = ignored.shape
    floor = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None, None]
    # a later person goes before an earlier one of equal OKS, any that counts before the ignored
    rank = oks.argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable").astype(np.int16)
    bonus = np.where(ignored, 1, persons + 1).astype(np.int16)[:, None]  # (A, 1, I, G)
    free = np.ones((areas, len(THRESHOLDS), images, persons), bool)
    taken = np.zeros((areas, len(THRESHOLDS), images, oks.shape[1]), bool)
    counted = np.zeros_like(taken)
    for pose in range(oks.shape[1]):
        allowed = free & (oks[:, pose] >= floor)
        worth = (rank[:, pose] + bonus) * allowed
        choice = worth.argmax(axis=-1)[..., None]
        value = np.take_along_axis(worth, choice, axis=-1)[..., 0]
        taken[..., pose] = value > 0
        counted[..., pose] = value > persons
        stays = np.take_along_axis(np.broadcast_to(crowd, free.shape), choice, axis=-1)
        now = np.take_along_axis(free, choice, axis=-1)
        np.put_along_axis(free, choice, now & (stays | (value == 0)[..., None]), axis=-1)
    return taken, counted
