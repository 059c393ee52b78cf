"""A checkpoint ready to use: images in, poses out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps
from torch import Tensor

from kdpose.checkpoints import Loaded, load_net
from kdpose.data.transforms import box_region, crop_matrix, warp
from kdpose.drawing import draw_poses
from kdpose.keypoints import Skeleton
from kdpose.metrics.rescoring import image_joints


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

    def draw(self, threshold: float = 0.0) -> NDArray[np.uint8]:
        """The image ``(H, W, 3)`` with the poses on it; weaker joints are left out."""
        canvas = torch.from_numpy(self.image).permute(2, 0, 1)
        joints, scores = torch.from_numpy(self.keypoints), torch.from_numpy(self.scores)
        drawn = draw_poses(canvas, joints, scores, self.skeleton, threshold)
        return drawn.permute(1, 2, 0).numpy()

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

    @torch.inference_mode()
    def __call__(
        self,
        image: str | Path | Image.Image | NDArray[np.uint8],
        boxes: ArrayLike | None = None,
        box_scores: ArrayLike | None = None,
    ) -> ImagePoses:
        """Poses of the persons in the boxes.

        Args:
            image: a path, a Pillow image, or an ``(H, W, 3)`` uint8 RGB array.
            boxes: ``(P, 4)`` x, y, width, height, image pixels; None is the whole image.
            box_scores: ``(P,)``, 1 where not given.

        Raises:
            OSError: the path is no image that can be read.
            ValueError: a box has no area, or there is not one score per box.
        """
        picture = open_image(image)
        whole = [[0, 0, picture.width, picture.height]]
        where = np.asarray(whole if boxes is None else boxes, dtype=np.float32).reshape(-1, 4)
        if len(where) and where[:, 2:].min() <= 0:
            raise ValueError(
                f"boxes must be x, y, width, height with an area, got {where.tolist()}"
            )
        trust = np.asarray(np.ones(len(where)) if box_scores is None else box_scores, np.float32)
        if trust.shape != (len(where),):
            raise ValueError(f"box_scores must be one per box, ({len(where)},), got {trust.shape}")
        joints, scores = self._poses(picture, where)
        return ImagePoses(
            keypoints=joints,
            scores=scores,
            boxes=where,
            box_scores=trust,
            skeleton=self.skeleton,
            image=np.array(picture),
        )

    def _poses(
        self, picture: Image.Image, boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width, height = self.net.codec.input_size
        regions = [box_region(box, width / height) for box in boxes]
        pixels = np.asarray(picture)
        found: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(regions), self.batch_size):
            crops = [
                warp(pixels, crop_matrix(center, size, (width, height)), (width, height))
                for center, size in regions[start : start + self.batch_size]
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


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one."""
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    )


def open_image(image: str | Path | Image.Image | NDArray[np.uint8]) -> Image.Image:
    """An RGB picture as a person would see it: a photograph's EXIF rotation is applied."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image).convert("RGB")
    if not isinstance(image, Image.Image):
        with Image.open(image) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    return ImageOps.exif_transpose(image).convert("RGB")


def load(path: str | Path, device: str = "auto", flip: bool = False) -> Predictor:
    """The predictor of a checkpoint: ``kdpose.load("best.ckpt")("photo.jpg").draw()``.

    Raises:
        FileNotFoundError: the checkpoint is not there.
        ValueError: it is none of kdpose's and none of another project that is known.
    """
    return Predictor(load_net(path), device, flip)
