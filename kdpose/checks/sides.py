"""Left and right that seem swapped."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kdpose.checks.findings import Example, Finding, Severity, first
from kdpose.checks.split import Split
from kdpose.skeletons.skeleton import Skeleton

_LONGER = 1.6  # times as long as with the sides swapped
_MARGIN = 0.15  # of the box's longer side
_WIDE = 0.15  # of the box's width: closer pairs do not show their sides
_SUSPECT = 0.02  # share of persons; public data of sports and crowds have up to 0.6 %
_ALL = 0.97


def crossings(split: Split, skeleton: Skeleton) -> NDArray[np.float64]:
    """How much shorter the limbs at a pair of joints would be if the pair changed sides.

    If, for example, the labels of both knees are swapped, thighs and shanks cross the body. A
    single crossing pair of limbs is usually a crossed leg, so it counts only if the limbs would
    be far shorter; two pairs that cross at the same joints are suspicious in themselves.

    Returns:
        ``(N, P)`` for P flip pairs: the reduction as a fraction of the box's longer side, else 0.
    """
    partner = dict(enumerate(skeleton.flip_order))
    ends = skeleton.limbs + tuple((b, a) for a, b in skeleton.limbs)
    longer_side = np.maximum(split.box[:, 2:].max(axis=1, initial=0), 1)
    saved = np.zeros((len(split.persons), len(skeleton.sides)))
    for column, (left, right) in enumerate(skeleton.sides):
        others = [b for a, b in ends if a == left and partner[b] not in (b, left)]
        others = [b for b in others if (right, partner[b]) in ends]
        gains = np.zeros((len(split.persons), len(others)))
        for i, b in enumerate(others):
            known = (split.visible[:, [left, right, b, partner[b]]] > 0).all(axis=1)
            straight = _length(split, left, b) + _length(split, right, partner[b])
            exchanged = _length(split, left, partner[b]) + _length(split, right, b)
            gains[:, i] = known * (straight - exchanged)
            far = np.where(straight > _LONGER * exchanged, gains[:, i], 0)
            saved[:, column] = np.maximum(saved[:, column], far / longer_side)
        if len(others) > 1:
            both = np.where((gains > 0).all(axis=1), gains.sum(axis=1), 0)
            saved[:, column] = np.maximum(saved[:, column], both / longer_side)
    return saved


def _length(split: Split, a: int, b: int) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(split.joints[:, a] - split.joints[:, b], axis=-1))


def crossed_limbs(split: Split, skeleton: Skeleton) -> Iterator[Finding]:
    """Persons whose limbs cross to the other side and would be much shorter uncrossed."""
    saved = crossings(split, skeleton).max(axis=1, initial=0) * split.labelled
    rows = np.flatnonzero(saved > _MARGIN)
    if rows.size:
        rows = rows[np.argsort(-saved[rows], kind="stable")]
        share = len(rows) / int(split.labelled.sum())
        shown = (
            split.example(row, f"limbs shorter by {saved[row]:.0%} of the box if swapped")
            for row in rows
        )
        message = (
            f"persons ({share:.1%}) have limbs that cross to the other side: crossed legs, or left "
            "and right swapped; sheet=FILE.jpg shows the worst"
        )
        severity: Severity = "warning" if share > _SUSPECT else "note"
        yield Finding("crossed_limbs", severity, len(rows), message, first(shown))


def viewers_sides(split: Split, skeleton: Skeleton) -> Iterator[Finding]:
    """Sides labelled as the viewer sees them: almost every left joint is then on the left."""
    left, right = (list(side) for side in np.array(skeleton.sides, int).reshape(-1, 2).T)
    known = (split.visible[:, left] > 0) & (split.visible[:, right] > 0)
    apart = split.joints[:, left, 0] - split.joints[:, right, 0]
    told = known & (np.abs(apart) > _WIDE * split.box[:, 2, None]) & split.labelled[:, None]
    if told.sum() >= 200 and (apart[told] < 0).mean() > _ALL:
        count = int((apart[told] < 0).sum())
        message = (
            f"of {told.sum()} pairs have the left joint on the left of the image, as the viewer "
            "sees it; label the person's own left"
        )
        shown = (Example(skeleton.joints[k]) for k in left)
        yield Finding("viewers_sides", "warning", count, message, first(shown))
