"""Predict poses in images with a checkpoint."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.checkpoints.load import Loaded, chosen, load_net
from kdpose.data.sources.images import ImageLike, open_image
from kdpose.data.transforms import PADDING, box_region, crop_matrix, warp
from kdpose.inference.poses import ImagePoses
from kdpose.metrics.rescoring import image_joints
from kdpose.pose_net import RefinedPoseNet
from kdpose.runtime.devices import pick_device

Tag = TypeVar("Tag")
_LEAST = 0.3  # of a score that is a probability: what is drawn by default
_HELD = 2**28  # bytes of images whose persons wait for a full batch


class Predictor:
    """Finds poses in images.

    Args:
        loaded: from :func:`kdpose.checkpoints.load.load_net`, or a network of another project.
        device: ``auto`` is a GPU if there is one.
        flip: average with the mirrored crop: slower, slightly better.
        batch_size: persons per batch.
    """

    def __init__(
        self,
        loaded: Loaded | LoadedGuest,
        device: str = "auto",
        flip: bool = False,
        batch_size: int = 32,
    ) -> None:
        self.device = pick_device(device)
        self.net = loaded.net.to(self.device)
        self._padding = loaded.net.padding if isinstance(loaded, LoadedGuest) else PADDING
        self.description = loaded.description
        self.skeleton = loaded.net.skeleton
        self.flip = flip
        self.batch_size = batch_size
        self.least_score = least_score(self.net)

    def stage1(self) -> "Predictor":
        """The predictor without its refiner: the poses that stage 2 starts from.

        Raises:
            ValueError: the network has no refiner.
        """
        if not isinstance(self.net, RefinedPoseNet):
            raise ValueError(
                "this checkpoint has no refiner to compare stage 1 with: use one of stage 2"
            )
        student = Loaded(self.net.student, self.description)
        return Predictor(student, str(self.device), self.flip, self.batch_size)

    @overload
    def __call__(
        self, image: ImageLike, boxes: ArrayLike | None = None, box_scores: ArrayLike | None = None
    ) -> ImagePoses: ...

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...],
        boxes: Sequence[ArrayLike | None] | None = None,
        box_scores: Sequence[ArrayLike | None] | None = None,
    ) -> list[ImagePoses]: ...

    def __call__(self, image: Any, boxes: Any = None, box_scores: Any = None) -> Any:
        """Predict the poses of the persons in the boxes.

        Args:
            image: a path, a Pillow image, or an ``(H, W, 3)`` uint8 RGB array; or a list of
                these, whose persons share the network's batches.
            boxes: ``(P, 4)`` x, y, width, height, image pixels; None is the whole image. For
                several images, a list with one entry per image; the same holds for
                ``box_scores``.
            box_scores: ``(P,)``, 1 by default.

        Raises:
            OSError: the path is not a readable image.
            ValueError: a box has no area, or the numbers of images, boxes and scores differ.
        """
        if not isinstance(image, list | tuple):
            return next(self.stream([(None, image, boxes, box_scores)]))[1]
        none = [None] * len(image)
        boxes, box_scores = boxes or none, box_scores or none
        if not len(image) == len(boxes) == len(box_scores):
            raise ValueError(
                f"{len(image)} images need as many lists of boxes and of box_scores, "
                f"got {len(boxes)} and {len(box_scores)}"
            )
        rows = zip(none, image, boxes, box_scores, strict=True)
        return [poses for _, poses in self.stream(rows)]

    def stream(
        self, images: Iterable[tuple[Tag, ImageLike, ArrayLike | None, ArrayLike | None]]
    ) -> Iterator[tuple[Tag, ImagePoses]]:
        """Predict the poses of any number of images, in order, in full batches of persons.

        Results of an image come once a batch is full or 256 MB of images wait.

        Args:
            images: a key for the result, then the arguments of a call: image, boxes and their
                scores.

        Yields:
            The key of the image, and its poses.

        Raises:
            OSError: a path is not a readable image.
            ValueError: a box has no area, or the numbers of boxes and scores differ.
        """
        width, height = self.net.codec.input_size
        waiting: deque[tuple[Tag, _Look]] = deque()
        crops: list[NDArray[np.uint8]] = []
        found: deque[_Pose] = deque()
        for tag, image, boxes, box_scores in images:
            look = _look(image, boxes, box_scores, width / height, self._padding)
            waiting.append((tag, look))
            for center, size in zip(look.centers, look.sizes, strict=True):
                crops.append(
                    warp(look.image, crop_matrix(center, size, (width, height)), (width, height))
                )
                if len(crops) == self.batch_size:
                    found += self._network(crops)
                    crops.clear()
            if sum(look.image.nbytes for _, look in waiting) > _HELD:
                found += self._network(crops)
                crops.clear()
            while waiting and len(waiting[0][1].boxes) <= len(found):
                yield self._answer(*waiting.popleft(), found)
        found += self._network(crops)
        while waiting:
            yield self._answer(*waiting.popleft(), found)

    @torch.inference_mode()
    def _network(self, crops: Sequence[NDArray[np.uint8]]) -> list["_Pose"]:
        """Joints ``(K, 2)``, crop pixels, and scores ``(K,)`` of each crop ``(H, W, 3)``."""
        if not crops:
            return []
        batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        pose = self.net.pose(batch.to(self.device), self.flip)
        joints, scores = pose.joints.float().cpu().numpy(), pose.scores.float().cpu().numpy()
        return list(zip(joints, scores, strict=True))

    def _answer(self, tag: Tag, look: "_Look", found: deque["_Pose"]) -> tuple[Tag, ImagePoses]:
        """Take the image's persons from the front of the results."""
        count = len(self.skeleton)
        rows = [found.popleft() for _ in look.boxes]
        joints = np.array([row[0] for row in rows], np.float32).reshape(-1, count, 2)
        scores = np.array([row[1] for row in rows], np.float32).reshape(-1, count)
        joints = image_joints(joints, look.centers, look.sizes, self.net.codec.input_size)
        return tag, ImagePoses(
            joints,
            scores,
            look.boxes,
            look.box_scores,
            self.skeleton,
            look.image,
            self.least_score,
        )


_Pose = tuple[NDArray[np.float32], NDArray[np.float32]]  # of one person: joints and scores


class _Look(NamedTuple):
    """An image ``(H, W, 3)``, its boxes ``(P, 4)``, their scores, and the regions to crop."""

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    centers: NDArray[np.float32]
    sizes: NDArray[np.float32]


def _look(
    image: ImageLike,
    boxes: ArrayLike | None,
    box_scores: ArrayLike | None,
    aspect: float,
    padding: float,
) -> _Look:
    pixels = np.array(open_image(image))
    where = _boxes(boxes, pixels)
    return _Look(pixels, where, _scores(box_scores, where), *box_region(where, aspect, padding))


def _boxes(boxes: ArrayLike | None, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    whole = [[0, 0, width, height]]
    where = np.asarray(whole if boxes is None else boxes, dtype=np.float32).reshape(-1, 4)
    if len(where) and not where[:, 2:].min() > 0:
        raise ValueError(f"boxes must be x, y, width, height with an area, got {where.tolist()}")
    return where


def _scores(scores: ArrayLike | None, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    trust = np.asarray(np.ones(len(boxes)) if scores is None else scores, np.float32)
    if trust.shape != (len(boxes),):
        raise ValueError(f"box_scores must be one per box, ({len(boxes)},), got {trust.shape}")
    return trust


def least_score(net: nn.Module) -> float:
    """The score from which joints are drawn by default: 0 where scores are no probabilities."""
    return 0.0 if getattr(net, "calibration", None) is None else _LEAST  # a guest has none


def load(path: str | Path | None = None, device: str = "auto", flip: bool = False) -> Predictor:
    """The predictor of a checkpoint: ``kdpose.load()("photo.jpg").draw()``.

    Args:
        path: of the checkpoint; None is the bundled student.
        device: ``auto`` is a GPU if there is one.
        flip: average with the mirrored crop: slower, slightly better.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ValueError: it is not a checkpoint of kdpose or of a supported project.
    """
    return Predictor(load_net(chosen(path)), device, flip)
