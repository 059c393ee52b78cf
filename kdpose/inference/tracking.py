"""Track persons through a video with ByteTrack, and smooth their joints with 1-euro filters."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdpose.display.drawing import PERSON_COLORS
from kdpose.inference.boxes import BoxSource
from kdpose.inference.poses import ImagePoses
from kdpose.inference.predictor import Predictor
from kdpose.inference.video import Frame


class Tracker:
    """Gives the persons of successive frames lasting identities (ByteTrack, arXiv 2110.06864).

    Args:
        rate: frames per second.
        gap: seconds a person may be unseen and keep the identity.
        threshold: a box with a lower score starts no track, but may continue one.

    Raises:
        ValueError: the extra ``video`` is not installed.
    """

    def __init__(self, rate: float, gap: float = 1.0, threshold: float = 0.5) -> None:
        try:
            from edgefirst.tracker import ByteTrack
        except ImportError:
            raise ValueError("tracking needs the extra: pip install 'kdpose[video]'") from None
        self._tracker = ByteTrack(
            high_conf=threshold,
            iou=0.1,  # between a box and where its track is expected
            update=1.0,  # the Kalman filter's own gain, as in the paper
            lifespan_ns=round(gap * 1e9),
        )
        self._frame_ns = 1e9 / rate
        self._frames = 0
        self._numbers: dict[str, int] = {}  # identities by the tracker's own names

    def __call__(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Identities ``(P,)`` of the next frame's persons.

        The persons of the first frame have theirs at once, as in the paper; those who come later
        are -1 until they are seen twice.

        Args:
            boxes: ``(P, 4)`` x, y, width, height, image pixels.
            scores: ``(P,)``.
        """
        now = round(self._frames * self._frame_ns)
        first = self._frames == 0
        self._frames += 1
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        labels = np.zeros(len(boxes), np.uintp)  # all are persons
        found = self._tracker.update(
            corners.reshape(-1, 4).astype(np.float32), scores.astype(np.float32), labels, now
        )
        identities = np.full(len(boxes), -1, dtype=np.int64)
        for person, track in enumerate(found):
            if track is not None and (first or track.created < now):
                identities[person] = self._numbers.setdefault(track.uuid, len(self._numbers))
        return identities


class Smoother:
    """Smooths each tracked person's joints over time by 1-euro filters (Casiez et al., CHI 2012).

    The filters work in units of the diagonal of the person's first box, so that the same settings
    suit near and far persons.

    Args:
        rate: frames per second.
        cutoff: Hz; lower removes more jitter.
        beta: Hz per diagonal a second; higher follows fast joints with less lag.
        gap: seconds after which the filters of an unseen person are dropped.
    """

    def __init__(
        self, rate: float, cutoff: float = 1.5, beta: float = 5.0, gap: float = 1.0
    ) -> None:
        try:
            from OneEuroFilter import OneEuroFilter
        except ImportError:
            raise ValueError("smoothing needs the extra: pip install 'kdpose[video]'") from None
        self._new = lambda: OneEuroFilter(rate, cutoff, beta)
        self._gap = gap
        self._filters: dict[int, tuple[float, list[Any]]] = {}  # unit in pixels, 2 K filters
        self._seen: dict[int, float] = {}

    def __call__(self, poses: ImagePoses, identities: NDArray[np.int64], time: float) -> ImagePoses:
        """The poses with smoothed joints; persons without an identity stay unchanged.

        Args:
            poses: of a frame.
            identities: ``(P,)``, -1 for none.
            time: of the frame, seconds.
        """
        keypoints = poses.keypoints.copy()
        for person, identity in enumerate(identities.tolist()):
            if identity >= 0:
                box = poses.boxes[person]
                keypoints[person] = self._smooth(identity, keypoints[person], box, time)
        for identity in [i for i, last in self._seen.items() if time - last > self._gap]:
            del self._seen[identity], self._filters[identity]
        return replace(poses, keypoints=keypoints)

    def _smooth(
        self, identity: int, joints: NDArray[np.float32], box: NDArray[np.float32], time: float
    ) -> NDArray[np.float32]:
        if identity not in self._filters:
            new = [self._new() for _ in range(joints.size)]
            self._filters[identity] = float(np.hypot(*box[2:])), new
        self._seen[identity] = time
        unit, filters = self._filters[identity]
        values = [f(v / unit, time) for f, v in zip(filters, joints.ravel().tolist(), strict=True)]
        return np.array(values, np.float32).reshape(joints.shape) * unit


def follow(
    frames: Iterable[Frame],
    predictor: Predictor,
    boxes: BoxSource,
    tracker: Tracker | None,
    smooth: Callable[[ImagePoses, NDArray[np.int64], float], ImagePoses] | None,
    live: bool = False,
) -> Iterator[tuple[Frame, ImagePoses, NDArray[np.int64]]]:
    """Each frame with its poses and the persons' identities ``(P,)``, -1 for none.

    The persons of several frames share the network's batches, unless frames are ``live``: these
    are processed one by one.
    """
    seen = (
        (frame, frame.image, *boxes(Image.fromarray(frame.image), frame.number)) for frame in frames
    )
    parts = ([look] for look in seen) if live else [seen]
    for frame, poses in chain.from_iterable(map(predictor.stream, parts)):
        identities = np.full(len(poses), -1, dtype=np.int64)
        if tracker is not None:
            identities = tracker(poses.boxes, poses.box_scores)
        if smooth is not None:
            poses = smooth(poses, identities, frame.time)
        yield frame, poses, identities


def track_colors(identities: NDArray[np.int64]) -> list[str]:
    """A colour for each person that stays with the identity; grey for those without."""
    return [
        PERSON_COLORS[i % len(PERSON_COLORS)] if i >= 0 else "#a0a0a0" for i in identities.tolist()
    ]
