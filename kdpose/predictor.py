"""A checkpoint ready to use: images in, poses out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kdpose.checkpoints import Loaded, load_net
from kdpose.data.transforms import box_region, crop_matrix, warp
from kdpose.drawing import PERSON_COLORS, draw_boxes, draw_poses
from kdpose.images import ImageLike, open_image
from kdpose.keypoints import Skeleton
from kdpose.metrics.rescoring import image_joints
from kdpose.pose_net import RefinedPoseNet

if TYPE_CHECKING:
    import supervision


@dataclass(frozen=True)
class ImagePoses:
    """Poses of the P persons of one image.

    Attributes:
        keypoints: ``(P, K, 2)``, (x, y), image pixels.
        scores: ``(P, K)``.
        boxes: ``(P, 4)`` x, y, width, height, image pixels.
        box_scores: ``(P,)``.
        skeleton: names and joins the joints.
        image: ``(H, W, 3)`` uint8 RGB, what was looked at.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    skeleton: Skeleton
    image: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.keypoints)

    def draw(
        self,
        threshold: float = 0.0,
        colors: Sequence[str] = PERSON_COLORS,
        boxes: bool = False,
    ) -> NDArray[np.uint8]:
        """The image ``(H, W, 3)`` with the poses on it; weaker joints are left out."""
        canvas = torch.from_numpy(self.image).permute(2, 0, 1)
        if boxes:
            canvas = draw_boxes(canvas, torch.from_numpy(self.boxes), colors)
        joints, scores = torch.from_numpy(self.keypoints), torch.from_numpy(self.scores)
        drawn = draw_poses(canvas, joints, scores, self.skeleton, threshold, colors)
        return drawn.permute(1, 2, 0).numpy()

    def crops(self) -> list[NDArray[np.uint8]]:
        """What of the image lies in each person's box ``(h, w, 3)``; empty for one outside it."""
        corners = np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)
        low, high = np.floor(corners[:, :2]).clip(0), np.ceil(corners[:, 2:]).clip(0)
        return [
            self.image[y1:y2, x1:x2]
            for x1, y1, x2, y2 in np.concatenate([low, high], axis=1).astype(int).tolist()
        ]

    def to_supervision(self) -> "supervision.KeyPoints":
        """The poses as ``supervision.KeyPoints``, for its annotators and metrics.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise ImportError("to_supervision needs: pip install 'kdpose[video]'") from None
        persons = len(self)
        return supervision.KeyPoints(
            xy=self.keypoints,
            class_id=np.zeros(persons, dtype=int),
            keypoint_confidence=self.scores,
            detection_confidence=self.box_scores,
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO keypoint results, with the boxes the persons were found in."""
        triplets = np.concatenate([self.keypoints, self.scores[..., None]], axis=-1)
        return [
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [round(float(v), 3) for v in person.ravel()],
                "score": round(float(box_score * scores.mean()), 5),
                "bbox": [round(float(v), 3) for v in box],
            }
            for person, scores, box, box_score in zip(
                triplets, self.scores, self.boxes, self.box_scores, strict=True
            )
        ]


class Predictor:
    """Finds poses in images.

    Args:
        loaded: from :func:`kdpose.checkpoints.load_net`.
        device: ``auto`` is a GPU where there is one.
        flip: average with the mirrored crop: slower, a little better.
        batch_size: persons at once.
    """

    def __init__(
        self, loaded: Loaded, device: str = "auto", flip: bool = False, batch_size: int = 32
    ) -> None:
        self.device = pick_device(device)
        self.net = loaded.net.to(self.device)
        self.description = loaded.description
        self.skeleton = loaded.net.skeleton
        self.flip = flip
        self.batch_size = batch_size

    def stage1(self) -> "Predictor":
        """The same without its refiner: the poses that stage 2 starts from.

        Raises:
            ValueError: the network has no refiner.
        """
        if not isinstance(self.net, RefinedPoseNet):
            raise ValueError(
                "stage 1 is compared with refined poses, and this checkpoint has no refiner: "
                "take one of stage 2"
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

    @torch.inference_mode()
    def __call__(self, image: Any, boxes: Any = None, box_scores: Any = None) -> Any:
        """Poses of the persons in the boxes.

        Args:
            image: a path, a Pillow image, or an ``(H, W, 3)`` uint8 RGB array; or a list of
                these, whose persons share the network's batches.
            boxes: ``(P, 4)`` x, y, width, height, image pixels; None is the whole image. One such
                per image where there are several, as is the next.
            box_scores: ``(P,)``, 1 where not given.

        Raises:
            OSError: the path is no image that can be read.
            ValueError: a box has no area, or there is not one score per box, or one of these per
                image.
        """
        if not isinstance(image, list | tuple):
            return self._predict([image], [boxes], [box_scores])[0]
        none = [None] * len(image)
        boxes, box_scores = boxes or none, box_scores or none
        if not len(image) == len(boxes) == len(box_scores):
            raise ValueError(
                f"{len(image)} images need as many lists of boxes and of box_scores, "
                f"got {len(boxes)} and {len(box_scores)}"
            )
        return self._predict(image, boxes, box_scores) if image else []

    def _predict(
        self,
        images: Sequence[ImageLike],
        boxes: Sequence[ArrayLike | None],
        box_scores: Sequence[ArrayLike | None],
    ) -> list[ImagePoses]:
        pictures = [np.array(open_image(image)) for image in images]
        where = [_boxes(*pair) for pair in zip(boxes, pictures, strict=True)]
        trust = [_scores(*pair) for pair in zip(box_scores, where, strict=True)]
        persons = [(p, box) for p, rows in zip(pictures, where, strict=True) for box in rows]
        joints, scores = self._poses(persons)
        ends = np.cumsum([len(rows) for rows in where])[:-1]
        parts = zip(np.split(joints, ends), np.split(scores, ends), strict=True)
        return [
            ImagePoses(*part, rows, trusted, self.skeleton, picture)
            for part, rows, trusted, picture in zip(parts, where, trust, pictures, strict=True)
        ]

    def _poses(
        self, persons: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Joints ``(P, K, 2)`` in image pixels and scores of persons of any pictures."""
        width, height = self.net.codec.input_size
        regions = [box_region(box, width / height) for _, box in persons]
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(regions), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            crops = [
                warp(pixels, crop_matrix(center, size, (width, height)), (width, height))
                for (pixels, _), (center, size) in zip(
                    persons[chosen], regions[chosen], strict=True
                )
            ]
            batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
            pose = self.net.pose(batch.to(self.device), self.flip)
            found.append((pose.joints.float().cpu(), pose.scores.float().cpu()))
        if not found:
            none = np.zeros((0, len(self.skeleton), 2), np.float32)
            return none, none[..., 0]
        joints, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        centers, sizes = (np.stack(parts) for parts in zip(*regions, strict=True))
        return image_joints(joints, centers, sizes, (width, height)), scores


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


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one."""
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )


def newest_checkpoint() -> Path:
    """The best checkpoint of the run in ``$KDPOSE_RUNS``, or ``runs``, that was trained last.

    Raises:
        FileNotFoundError: there is no run.
    """
    runs = Path(os.environ.get("KDPOSE_RUNS", "runs"))
    found = sorted(runs.glob("**/best.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"no checkpoint in {runs.absolute()}: train one, as by "
            "`python -m kdpose.train +experiment=synthetic_full`, or name one's path (ckpt=PATH)"
        )
    return found[-1]


def load(path: str | Path | None = None, device: str = "auto", flip: bool = False) -> Predictor:
    """The predictor of a checkpoint: ``kdpose.load("best.ckpt")("photo.jpg").draw()``.

    Args:
        path: of the checkpoint; None takes the one that was trained last.
        device: ``auto`` is a GPU where there is one.
        flip: average with the mirrored crop: slower, a little better.

    Raises:
        FileNotFoundError: the checkpoint is not there.
        ValueError: it is none of kdpose's and none of another project that is known.
    """
    return Predictor(load_net(path or newest_checkpoint()), device, flip)
