"""Poses as picture files: drawn images and crops."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdpose.display.drawing import side_by_side
from kdpose.inference.poses import ImagePoses
from kdpose.inference.predictor import Predictor

_LARGEST = 8192  # pixels; larger pictures are scaled down; JPEG's limit is 65535


@dataclass(frozen=True)
class Painter:
    """Draws poses, beside those of stage 1 if that predictor is given."""

    threshold: float | None
    stage1: Predictor | None

    def __call__(self, poses: ImagePoses, colors: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """A picture ``(H, W, 3)``; one colour per person if colours are given."""
        draw = partial(ImagePoses.draw, threshold=self.threshold)
        draw = draw if colors is None else partial(draw, colors=colors)
        if self.stage1 is None:
            return draw(poses)
        initial = self.stage1(poses.image, poses.boxes, poses.box_scores)
        return side_by_side({"stage 1": draw(initial), "refined": draw(poses)})


def save_drawn(poses: ImagePoses, painter: Painter, out: Path, name: str) -> None:
    """Write ``out/NAME.jpg``."""
    drawn = Image.fromarray(painter(poses))
    drawn.thumbnail((_LARGEST, _LARGEST))
    drawn.save(out / f"{name}.jpg", quality=92)


def save_crops(poses: ImagePoses, out: Path, name: str) -> None:
    """Write the crop of each person's box to ``out/crops/NAME_PERSON.jpg``."""
    (out / "crops").mkdir(parents=True, exist_ok=True)
    for person, crop in enumerate(poses.crops()):
        if crop.size:
            Image.fromarray(crop).save(out / "crops" / f"{name}_{person}.jpg", quality=92)
