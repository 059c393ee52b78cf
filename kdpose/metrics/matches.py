"""AP from stored matches, so that thousands of resampled splits take seconds."""

import numpy as np
from numpy.typing import NDArray

from kdpose.metrics.matching import Matches

Counts = NDArray[np.int64]
_RECALLS = np.linspace(0, 1, 101)


def precision_recall(
    matches: Matches, counts: Counts | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Precision at 101 recalls and the recall reached, as pycocotools accumulates them.

    Args:
        matches: of a run.
        counts: ``(I,)`` how often each image is in the split; default once.

    Returns:
        Precision ``(T, 101)`` and recall ``(T,)``, or None where nobody is to be found.
    """
    times = np.ones(len(matches.persons), np.int64) if counts is None else counts
    persons = int(matches.persons @ times)
    if not persons:
        return None
    weight = times[matches.image]
    hits = np.cumsum(matches.hit * weight, axis=1)
    misses = np.cumsum(matches.miss * weight, axis=1)
    precision = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    recall = hits / persons
    rows = zip(reached, recall, strict=True)
    sampled = np.array([row[np.searchsorted(at, _RECALLS, side="left")] for row, at in rows])
    last = recall[:, -1] if recall.shape[1] else np.zeros(len(recall))
    return sampled, last


def average_precision(matches: Matches, counts: Counts | None = None) -> float | None:
    """AP over the ten thresholds, each image counted as often as it is in the split.

    Equals the evaluator's AP on a split in which each image is repeated, up to the order of
    persons whose scores tie: copies of a pose follow one another, and of the precisions at
    one recall AP takes the highest.

    Args:
        matches: of a run.
        counts: ``(I,)`` how often each image is in the split; default once.

    Returns:
        The fraction, or None where nobody is to be found.
    """
    curves = precision_recall(matches, counts)
    return None if curves is None else float(curves[0].mean())


def resampled_ap(matches: Matches, draws: Counts) -> NDArray[np.float64]:
    """AP on resampled splits.

    Args:
        matches: of a run.
        draws: ``(R, I)`` how often each image is in each split, see :func:`draw_images`.

    Returns:
        ``(R,)``, NaN where a split has nobody to find.
    """
    values = [average_precision(matches, counts) for counts in draws]
    return np.array([np.nan if value is None else value for value in values])


def draw_images(images: int, resamples: int, seed: int = 0) -> Counts:
    """Bootstrap samples of a split: as many images, drawn with replacement.

    Returns:
        ``(resamples, images)`` how often each image was drawn.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples)


def resampled_mean(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Means ``(R,)`` over rows of ``(S, R)``, each column with its own draw with replacement."""
    rows, columns = values.shape
    drawn = np.random.default_rng(seed).integers(rows, size=(rows, columns))
    return np.asarray(np.take_along_axis(values, drawn, axis=0).mean(axis=0))


def interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values, which leaves out those that are NaN."""
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
