"""How the outputs of an ONNX pose network are recognised by names and shapes, and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kdpose.codecs.heatmap import peaks
from kdpose.codecs.spread import bin_spread, map_spread
from kdpose.types import Answer

Kind = Literal["simcc", "heatmap", "keypoints", "detections", "joints"]
Order = Literal["xys", "yxs"]
Unit = Literal["pixel", "crop"]
Floats = NDArray[np.float32]
Found = Mapping[str, Floats]  # outputs by name, their first axis the batch


@dataclass(frozen=True)
class Reading:
    """What turns outputs into poses.

    Attributes:
        kind: of output.
        joints: K.
        input_size: W, H of the crop.
        padding: the crop's size relative to the box.
        order: of keypoints' values.
        unit: of keypoints.
    """

    kind: Kind
    joints: int
    input_size: tuple[int, int]
    padding: float
    order: Order
    unit: Unit

    def __call__(self, found: Found) -> Answer:
        """What the network answers."""
        return _READ[self.kind](found, self)

    @property
    def size(self) -> Floats:
        """``input_size`` as an array."""
        return np.array(self.input_size, np.float32)

    def in_pixels(self, points: Floats) -> Floats:
        """``(..., 2)`` as x, y in crop pixels; 0 and 1 are the crop's edges, not pixel centres."""
        points = points[..., ::-1] if self.order == "yxs" else points
        return points * self.size - np.float32(0.5) if self.unit == "crop" else points


def recognise(found: Found, joints: int) -> Kind | None:
    """The kind of output, or None."""
    return next((kind for kind, fits in _KINDS.items() if fits(found, joints)), None)


def within_one(found: Found, kind: Kind, joints: int) -> bool:
    """Whether keypoints lie in 0..1 rather than in pixels."""
    values = next(iter(found.values()))
    if kind == "detections":
        return bool(np.abs(_rows(found, joints)[..., :4]).max(initial=0) < 2)
    return kind == "keypoints" and bool(
        np.abs(values.reshape(-1, joints, 3)[..., :2]).max(initial=0) < 2
    )


def _is_simcc(found: Found, joints: int) -> bool:
    shapes = [value.shape for value in found.values()]
    return len(shapes) == 2 and all(len(s) == 3 and s[1] == joints for s in shapes)


def _is_keypoints(found: Found, joints: int) -> bool:
    return bool(found) and next(iter(found.values())).shape[-2:] == (joints, 3)


def _is_detections(found: Found, joints: int) -> bool:
    shape = next(iter(found.values())).shape if len(found) == 1 else ()
    return len(shape) == 3 and bool(set(shape[1:]) & _widths(joints))


def _is_heatmap(found: Found, joints: int) -> bool:
    shapes = [value.shape for value in found.values()]
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == joints


_KINDS: dict[Kind, Callable[[Found, int], bool]] = {
    "joints": lambda found, _: {"joints", "scores"} <= set(found),  # as kdpose exports them
    "simcc": _is_simcc,
    "keypoints": _is_keypoints,
    "detections": _is_detections,
    "heatmap": _is_heatmap,
}


def _joints(found: Found, how: Reading) -> Answer:
    return Answer(torch.from_numpy(found["joints"]), torch.from_numpy(found["scores"]))


def _simcc(found: Found, how: Reading) -> Answer:
    values, (width, height) = list(found.values()), how.input_size
    x, y = (found.get(name, values[i]) for i, name in enumerate(("simcc_x", "simcc_y")))
    x, y = _density(x), _density(y)
    bins = torch.tensor([width / x.shape[-1], height / y.shape[-1]])  # of a bin, crop pixels
    places = torch.from_numpy(np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(np.float32))
    scores = torch.from_numpy(np.minimum(x.max(-1), y.max(-1)).clip(0, 1))
    spread = torch.stack([bin_spread(torch.from_numpy(axis)) for axis in (x, y)], -1)
    return Answer(places * bins, scores, spread * bins)


def _density(scores: Floats) -> Floats:
    """Bins ``(B, K, n)`` as they are; logits as probabilities."""
    best = scores.max(-1, keepdims=True)
    if best.max() <= 1.5:
        return scores.clip(0)
    shares = np.exp(scores - best)
    return np.asarray(shares / shares.sum(-1, keepdims=True), np.float32)


def _heatmap(found: Found, how: Reading) -> Answer:
    """Cell (i, j) of a map is crop pixel (i, j) times the stride, as in HRNet."""
    maps = torch.from_numpy(next(iter(found.values())))
    cells, scores = peaks(maps)
    stride = cells.new_tensor(how.input_size) / cells.new_tensor(maps.shape[:1:-1])
    return Answer(cells * stride, scores, map_spread(maps) * stride)


def _keypoints(found: Found, how: Reading) -> Answer:
    points = next(iter(found.values())).reshape(-1, how.joints, 3)
    joints = np.ascontiguousarray(how.in_pixels(points[..., :2]), np.float32)
    return Answer(torch.from_numpy(joints), torch.from_numpy(points[..., 2].copy()))


def _detections(found: Found, how: Reading) -> Answer:
    """The detected person that fits the crop's person best; joint scores times the box's.

    The crop is the person's box, grown to the crop's aspect and padded: the person sought is in
    its middle and fills 1 / padding of it along one side.
    """
    rows = _rows(found, how.joints)
    rows = np.concatenate(
        [rows, np.zeros_like(rows[:, :1], shape=(len(rows), 1, rows.shape[2]))], 1
    )
    low, high, score, points = _parts(rows, how)
    share = (high - low) * how.padding / how.size
    side = share.max(-1).clip(1e-6)
    middle = (low + high) / 2 - (how.size - 1) / 2
    away = np.linalg.norm(middle * how.padding / how.size, axis=-1)
    fit = np.minimum(side, 1 / side) * (1 - away).clip(0)
    best = (score * fit).argmax(-1)
    chosen, every = points[np.arange(len(rows)), best], np.arange(len(rows))
    joints = np.ascontiguousarray(how.in_pixels(chosen[..., :2]), np.float32)
    scores = chosen[..., 2] * score[every, best][:, None]
    return Answer(torch.from_numpy(joints), torch.from_numpy(scores.astype(np.float32)))


def _widths(joints: int) -> set[int]:
    """Values of a detected person: box and score, perhaps its class, and the joints."""
    return {5 + 3 * joints, 6 + 3 * joints}


def _rows(found: Found, joints: int) -> Floats:
    """``(B, N, 5 + 3 K)`` or, with a class, ``(B, N, 6 + 3 K)``."""
    rows = next(iter(found.values()))
    return rows if rows.shape[-1] in _widths(joints) else rows.transpose(0, 2, 1)


def _parts(rows: Floats, how: Reading) -> tuple[Any, Any, Any, Any]:
    """Corners ``(B, N, 2)`` in crop pixels, scores ``(B, N)`` and joints ``(B, N, K, 3)``.

    YOLO's rows are centre, size, score, joints, or after its own suppression corners, score, class,
    joints; those of MoveNet, whose order is y, x, score, are joints, corners, score.
    """
    count, shape = 3 * how.joints, (*rows.shape[:2], how.joints, 3)
    if how.order == "yxs":
        box = how.in_pixels(rows[..., count : count + 4].reshape(*rows.shape[:2], 2, 2))
        return (
            box[..., 0, :],
            box[..., 1, :],
            rows[..., count + 4],
            rows[..., :count].reshape(shape),
        )
    one, other, points = rows[..., :2], rows[..., 2:4], rows[..., -count:].reshape(shape)
    if rows.shape[-1] == 5 + count:
        one, other = one - other * np.float32(0.5), one + other * np.float32(0.5)
    return how.in_pixels(one), how.in_pixels(other), rows[..., 4], points


_READ: dict[Kind, Callable[[Found, Reading], Answer]] = {
    "joints": _joints,
    "simcc": _simcc,
    "heatmap": _heatmap,
    "keypoints": _keypoints,
    "detections": _detections,
}
