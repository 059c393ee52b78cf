"""Collect the poses of a split on any number of devices, and write COCO results."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kdpose.metrics.rescoring import image_joints, instance_scores, oks_nms

_STATES = ("image_id", "person", "joints", "scores", "box_score", "center", "size")


@dataclass(eq=False)
class Predictions:
    """Poses of N persons in their images, ordered by ``person``, every person once.

    Attributes:
        image_id: ``(N,)`` int64.
        person: ``(N,)`` int64, row of the person in the split.
        keypoints: ``(N, K, 2)`` float32, (x, y), image pixels.
        joint_scores: ``(N, K)`` float32.
        box_score: ``(N,)`` float32.
        center: ``(N, 2)`` float32, centre of the cropped region, image pixels.
        size: ``(N, 2)`` float32, width and height of the cropped region, image pixels.
        spread: ``(N, K, 2)`` float32, standard deviations of the joints' distributions, image
            pixels, or None.
    """

    image_id: np.ndarray
    person: np.ndarray
    keypoints: np.ndarray
    joint_scores: np.ndarray
    box_score: np.ndarray
    center: np.ndarray
    size: np.ndarray
    spread: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of persons N."""
        return len(self.person)

    def __getitem__(self, rows: slice) -> Self:
        """Some of the persons."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: None if v is None else v[rows] for n, v in columns.items()}
        return type(self)(**taken)

    @property
    def area(self) -> np.ndarray:
        """``(N,)`` areas of the cropped regions, square image pixels."""
        return self.size.prod(axis=1)


class PoseResults(Metric):
    """Gathers the decoded poses of a split; ``compute`` returns :class:`Predictions`.

    A distributed sampler pads the split with repeated persons. Persons are therefore identified by
    their row in the split, and the metrics equal those of a single device.

    Args:
        input_size: width and height of the network input, pixels.
        alone: use the poses of this process only.
    """

    full_state_update = False
    image_id: list[Tensor]
    person: list[Tensor]
    joints: list[Tensor]
    scores: list[Tensor]
    box_score: list[Tensor]
    center: list[Tensor]
    size: list[Tensor]
    spread: list[Tensor]

    def __init__(self, input_size: tuple[int, int], alone: bool = False) -> None:
        super().__init__(sync_on_compute=not alone)
        self.input_size = input_size
        for name in (*_STATES, "spread"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        image_id: Tensor,
        person: Tensor,
        joints: Tensor,
        scores: Tensor,
        box_score: Tensor,
        center: Tensor,
        size: Tensor,
        spread: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            image_id: ``(B,)`` int64, the images' ids in the annotation file.
            person: ``(B,)`` int64, rows of the persons in the split.
            joints: ``(B, K, 2)``, crop pixels.
            scores: ``(B, K)`` joint scores.
            box_score: ``(B,)``.
            center: ``(B, 2)``, centre of the cropped region, image pixels.
            size: ``(B, 2)``, width and height of the cropped region, image pixels.
            spread: ``(B, K, 2)``, standard deviations of the joints' distributions, crop pixels;
                of all batches or of none.

        Raises:
            ValueError: the tensors differ in the number of persons.
        """
        values = (image_id, person, joints, scores, box_score, center, size)
        if len({len(value) for value in values}) != 1:
            shapes = ", ".join(
                f"{n} {tuple(v.shape)}" for n, v in zip(_STATES, values, strict=True)
            )
            raise ValueError(f"pose results must have one entry per person, got {shapes}")
        for name, value in zip(_STATES, values, strict=True):
            kept = value.detach()
            getattr(self, name).append(kept.float() if kept.is_floating_point() else kept)
        if spread is not None:
            self.spread.append(spread.detach().float())

    def compute(self) -> Predictions:
        """All poses so far, from every process, in image pixels."""
        state = {name: _gathered(getattr(self, name)) for name in _STATES}
        spread = _gathered(self.spread)
        person, rows = np.unique(state["person"].astype(np.int64), return_index=True)
        state = {name: values[rows] for name, values in state.items()}
        if not len(person):
            return _no_predictions()
        return Predictions(
            image_id=state["image_id"].astype(np.int64),
            person=person,
            keypoints=image_joints(
                state["joints"], state["center"], state["size"], self.input_size
            ),
            joint_scores=state["scores"],
            box_score=state["box_score"],
            center=state["center"],
            size=state["size"],
            spread=spread[rows] * (state["size"][:, :1, None] / self.input_size[0])
            if len(spread)
            else None,
        )


def _gathered(state: list[Tensor] | Tensor) -> np.ndarray:
    """A state as one array, empty if nothing was added."""
    nothing = isinstance(state, list) and not state
    return (torch.empty(0) if nothing else dim_zero_cat(state)).cpu().numpy()


def _no_predictions() -> Predictions:
    ids, one, two = np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 2), np.float32)
    return Predictions(ids, ids, two[:, None], one[:, None], one, two, two)


def to_results(
    predictions: Predictions,
    sigmas: Sequence[float],
    *,
    threshold: float = 0.01,
    nms: float | None = 0.9,
    categories: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """COCO keypoint results: rescored, without persons found twice.

    A result has its crop as ``region`` (x, y, width, height), as COCO's evaluators would take its
    area from ``bbox``.

    Args:
        predictions: the poses of a split.
        sigmas: K OKS constants.
        threshold: joint scores up to this are excluded from a person's score.
        nms: largest OKS at which two persons are both kept, None to keep all.
        categories: ``(S,)`` the category of each person of the split, -1 for none; None: all 1.

    Returns:
        ``{image_id, category_id, keypoints, score, region}`` per person, by image, best first.

    Raises:
        ValueError: there are not K sigmas.
    """
    if len(predictions) and predictions.keypoints.shape[1] != len(sigmas):
        raise ValueError(
            f"sigmas must be one per joint, got {len(sigmas)} sigmas and "
            f"{predictions.keypoints.shape[1]} joints"
        )
    scores = instance_scores(predictions.joint_scores, predictions.box_score, threshold)
    areas, limit = predictions.area, np.inf if nms is None else nms
    order = np.argsort(predictions.image_id, kind="stable")
    starts = np.unique(predictions.image_id[order], return_index=True)[1][1:]
    results: list[dict[str, Any]] = []
    for rows in np.split(order, starts) if order.size else ():
        kept = oks_nms(predictions.keypoints[rows], scores[rows], areas[rows], sigmas, limit)
        results += [_result(predictions, scores, row, categories) for row in rows[kept].tolist()]
    return results


def flat_keypoints(joints: np.ndarray, scores: np.ndarray) -> list[float]:
    """COCO's x, y, score of one person's joints ``(K, 2)``, in thousandths of a pixel."""
    points = zip(joints.tolist(), scores.tolist(), strict=True)
    return [v for (x, y), s in points for v in (round(x, 3), round(y, 3), round(s, 5))]


def _result(
    predictions: Predictions, scores: np.ndarray, row: int, categories: np.ndarray | None
) -> dict[str, Any]:
    category = -1 if categories is None else int(categories[predictions.person[row]])
    corner = predictions.center[row] - predictions.size[row] / 2
    return {
        "image_id": int(predictions.image_id[row]),
        "category_id": category if category >= 0 else 1,
        "keypoints": flat_keypoints(predictions.keypoints[row], predictions.joint_scores[row]),
        "score": float(scores[row]),
        "region": [round(float(value), 3) for value in (*corner, *predictions.size[row])],
    }
