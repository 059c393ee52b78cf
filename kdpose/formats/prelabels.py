"""Predictions as pre-labels: poses of images, before they are written for an annotation tool."""

import logging
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.data.results import read_poses
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.coco_schema import LABELLED_FROM, box_around
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_FAINT = "persons have a score below min_score=%g and are left out"
_STRAY = "persons are of images that %s does not list, and are left out"
_EMPTY = "persons have no joint with a score above 0 and are left out"


@dataclass(frozen=True)
class Guess:
    """A predicted person.

    Attributes:
        keypoints: ``(K, 3)`` x, y, score, image pixels.
        box: x, y, width, height.
        score: of the person.
    """

    keypoints: np.ndarray
    box: list[float]
    score: float

    def visibility(self, k: int) -> int:
        """COCO's v: 2, or 1 for a joint whose score is low, or 0 where there is none."""
        score = float(self.keypoints[k, 2])
        return 0 if score <= 0 else 2 if score >= LABELLED_FROM else 1


@dataclass(frozen=True)
class Page:
    """An image and its predicted persons."""

    name: str
    width: int
    height: int
    persons: list[Guess]


def read(
    source: str, annotations: str, skeleton: str | None, min_score: float
) -> tuple[list[Page], Skeleton]:
    """Read predictions and the images that they are of.

    Args:
        source: COCO keypoint results, as ``kdpose predict`` and ``evaluate`` write them.
        annotations: the annotation file that lists the images.
        skeleton: name or file of the predictions' skeleton; None: that of the annotations.
        min_score: of a person.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file cannot be used, the joints do not fit, or no person is left.
    """
    file = AnnotationFile.read(annotations)
    joints = named_skeleton(skeleton or file)
    images = {
        image["id"]: Page(image["file_name"], int(image["width"]), int(image["height"]), [])
        for image in file.content["images"]
    }
    lost = Counter[str]()
    results = read_poses(source, "source")
    for result in results:
        page = images.get(result["image_id"])
        if page is None:
            lost[_STRAY % file.path] += 1
        elif result["score"] < min_score:
            lost[_FAINT % min_score] += 1
        elif any(v > 0 for v in result["keypoints"][2::3]):
            page.persons.append(_guess(result, page, joints, source))
        else:
            lost[_EMPTY] += 1
    for reason, count in lost.items():
        _log.warning("%s (from source): %d %s", Path(source).absolute(), count, reason)
    if not any(page.persons for page in images.values()):
        where = f"{Path(source).absolute()} (from source)"
        raise ValueError(f"{where}: no person is left of {len(results)}")
    return list(images.values()), joints


def _guess(result: dict[str, Any], page: Page, skeleton: Skeleton, source: str) -> Guess:
    keypoints = np.array(result["keypoints"], np.float64).reshape(-1, 3)
    if len(keypoints) != len(skeleton):
        raise ValueError(
            f"{Path(source).absolute()} (from source) has persons of {len(keypoints)} joints, and "
            f"the annotations' skeleton has {len(skeleton)}: set skeleton=FILE.yaml"
        )
    box = result.get("bbox") or box_around(result["keypoints"], (page.width, page.height))
    return Guess(keypoints, [float(value) for value in box], float(result["score"]))


def inside(value: float, limit: float) -> float:
    """A coordinate within the image, where tools accept points."""
    return min(max(value, 0.0), limit) if math.isfinite(value) else 0.0
