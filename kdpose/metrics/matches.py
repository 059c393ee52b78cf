"""AP from matches that are made once, so that thousands of resampled splits cost seconds."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Counts = NDArray[np.int64]
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Matches:
    """Which of D detections found a person, at T = 10 OKS thresholds, in I images.

    Attributes:
        image: ``(D,)`` row of the detection's image; detections come best score first.
        hit: ``(T, D)`` whether it found a person that counts.
        miss: ``(T, D)`` whether it found nobody; neither, where it found an ignored person.
        persons: ``(I,)`` how many persons count.
        best_oks: ``(I,)`` mean over these of the best detection's OKS; NaN where there are none.
    """

    image: NDArray[np.int64]
    hit: NDArray[np.bool_]
    miss: NDArray[np.bool_]
    persons: Counts
    best_oks: NDArray[np.float64]


def match_persons(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    sigmas: Sequence[float],
) -> Matches:
    """Match once, by pycocotools, persons of every size.

    Args:
        truth: of :func:`kdpose.metrics.keypoint_ap.ground_truth`.
        found: of :func:`kdpose.metrics.keypoint_ap.read_detections`.
        image_ids: I images, ascending.
        sigmas: K OKS constants.
    """
    evaluator = _evaluated(truth, found, image_ids, sigmas)
    scores: list[float] = []
    owners: list[int] = []
    hits, misses = [np.zeros((10, 0), bool)], [np.zeros((10, 0), bool)]
    persons = np.zeros(len(image_ids), np.int64)
    best_oks = np.full(len(image_ids), np.nan)
    for row, image in enumerate(evaluator.evalImgs):
        if image is None:
            continue
        persons[row] = (image["gtIgnore"] == 0).sum()
        scores += image["dtScores"]
        owners += [row] * len(image["dtScores"])
        matched, ignored = image["dtMatches"] > 0, image["dtIgnore"].astype(bool)
        hits.append(matched & ~ignored)
        misses.append(~matched & ~ignored)
        if persons[row]:
            counted = [not g["_ignore"] for g in evaluator._gts[image_ids[row], 1]]
            oks = np.asarray(evaluator.ious[image_ids[row], 1])
            best_oks[row] = oks[:, counted].max(axis=0).mean() if oks.size else 0.0
    order = np.argsort(-np.array(scores), kind="stable")
    return Matches(
        image=np.array(owners, np.int64)[order],
        hit=np.concatenate(hits, axis=1)[:, order],
        miss=np.concatenate(misses, axis=1)[:, order],
        persons=persons,
        best_oks=best_oks,
    )


def _evaluated(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    image_ids: Sequence[int],
    sigmas: Sequence[float],
) -> COCOeval:
    reference = COCO()
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        reference.dataset = {
            "images": [{"id": image} for image in image_ids],
            "annotations": [dict(person) for person in truth],
            "categories": [{"id": 1, "name": "person"}],
        }
        reference.createIndex()
        candidates = reference.loadRes([dict(f) for f in found]) if found else COCO()
        evaluator = COCOeval(reference, candidates, "keypoints")
        evaluator.params.imgIds = list(image_ids)
        evaluator.params.catIds = [1]
        evaluator.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluator.params.areaRng = evaluator.params.areaRng[:1]
        evaluator.evaluate()
    return evaluator


def average_precision(matches: Matches, counts: Counts | None = None) -> float | None:
    """AP over the ten thresholds, each image counted so many times.

    Equals the evaluator's AP on a split in which each image is repeated, up to the order of
    persons whose scores tie: copies of a detection follow one another, and of the precisions at
    one recall AP takes the highest.

    Args:
        matches: of a run.
        counts: ``(I,)`` how often each image is in the split; default once.

    Returns:
        The fraction, or None where nobody is to be found.
    """
    times = np.ones(len(matches.persons), np.int64) if counts is None else counts
    persons = int(matches.persons @ times)
    if not persons:
        return None
    weight = times[matches.image]
    hits = np.cumsum(matches.hit * weight, axis=1)
    misses = np.cumsum(matches.miss * weight, axis=1)
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)
    recall = hits / persons
    return float(
        np.mean(
            [
                row[np.searchsorted(at, _RECALLS, side="left")]
                for row, at in zip(reached, recall, strict=True)
            ]
        )
    )


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


def interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap values, which leaves out those that are NaN."""
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
