"""The poses found in one image; drawing and conversion to other formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpose.display.drawing import PERSON_COLORS, draw_boxes, draw_poses
from kdpose.metrics.pose_results import flat_keypoints
from kdpose.skeletons.skeleton import Skeleton

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
        skeleton: of the persons.
        image: ``(H, W, 3)`` uint8 RGB, the input.
        least_score: joints, and persons whose mean is lower, are not drawn unless asked for.
    """

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    skeleton: Skeleton
    image: NDArray[np.uint8]
    least_score: float = 0.0

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.keypoints)

    def draw(
        self,
        threshold: float | None = None,
        colors: Sequence[str] = PERSON_COLORS,
        boxes: bool = False,
    ) -> NDArray[np.uint8]:
        """The image ``(H, W, 3)`` with the poses; joints beyond the border are drawn on it.

        Args:
            threshold: joints with a lower score are not drawn, nor are persons whose mean score is
                lower; None is ``least_score``.
            colors: of the persons, in turn.
            boxes: draw these too.
        """
        least = self.least_score if threshold is None else threshold
        canvas = torch.from_numpy(self.image).permute(2, 0, 1)
        if boxes:
            canvas = draw_boxes(canvas, torch.from_numpy(self.boxes), colors)
        edge = np.array(self.image.shape[1::-1], np.float32) - 1
        joints = torch.from_numpy(self.keypoints.clip(0, edge))
        scores = torch.from_numpy(self.scores)
        shown = scores.where(scores.mean(dim=1, keepdim=True) >= least, -1.0)
        drawn = draw_poses(canvas, joints, shown, self.skeleton, least, colors)
        return drawn.permute(1, 2, 0).numpy()

    def crops(self) -> list[NDArray[np.uint8]]:
        """The crop of each person's box ``(h, w, 3)``; empty for a box outside the image."""
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

    def to_coco(
        self, image_id: int, categories: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO keypoint results, with the boxes the persons were found in.

        Args:
            image_id: of the image.
            categories: P ids of the persons' categories; None: all 1.
        """
        return [
            {
                "image_id": image_id,
                "category_id": category,
                "keypoints": flat_keypoints(joints, scores),
                "score": round(float(box_score * scores.mean()), 5),
                "bbox": [round(float(v), 3) for v in box],
            }
            for joints, scores, box, box_score, category in zip(
                self.keypoints,
                self.scores,
                self.boxes,
                self.box_scores,
                [1] * len(self) if categories is None else categories,
                strict=True,
            )
        ]
