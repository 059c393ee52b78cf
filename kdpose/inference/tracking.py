"""Persons followed through a video: ByteTrack's identities, joints smoothed by 1-euro filters."""

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
        gap: seconds for which a person may be lost and come back as the same.
        threshold: a box with a lower score begins no track, but may continue one.

    Raises:
        ValueError: the extra ``video`` is not installed.
    """

    def __init__(self, rate: float, gap: float = 1.0, threshold: float = 0.5) -> None:
        try:
            import supervision
            import trackers
        except ImportError:
            raise ValueError("tracking needs the extra: pip install 'kdpose[video]'") from None
        self._detections = supervision.Detections
        self._tracker = trackers.ByteTrackTracker(
            lost_track_buffer=round(30 * gap),  # counted in frames of 1/30 s whatever the rate
            frame_rate=rate,
            track_activation_threshold=threshold,
            high_conf_det_threshold=threshold,
            minimum_consecutive_frames=1,
        )

    def __call__(
        self, boxes: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Identities ``(P,)`` of the next frame's persons, -1 until one is seen a second time.

        Args:
            boxes: ``(P, 4)`` x, y, width, height, image pixels.
            scores: ``(P,)``.
        """
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        rows: dict[str, Any] = {"row": np.arange(len(boxes))}  # the tracker changes the order
        found = self._tracker.update(
            self._detections(xyxy=corners.reshape(-1, 4), confidence=scores, data=rows)
        )
        identities = np.full(len(boxes), -1, dtype=np.int64)
        if len(found):
            identities[np.asarray(found.data["row"])] = np.asarray(found.tracker_id)
        return identities


class Smoother:
    """Smooths each tracked person's joints over time by 1-euro filters (Casiez et al., CHI 2012).

    The filters see the joints in diagonals of the person's first box, so that the same settings
    serve persons near and far.

    Args:
        rate: frames per second.
        cutoff: Hz; less of it removes more jitter.
        beta: Hz per diagonal a second; more of it follows fast joints with less lag.
        gap: seconds after which a lost person's filters are forgotten.
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
        """The poses with the smoothed joints; persons without an identity stay as they are.

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

    The persons of several frames share the network's batches; not so where frames are ``live``,
    which are answered one by one.
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
