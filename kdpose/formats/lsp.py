"""Leeds Sports Pose and its extended set: ``joints.mat`` beside ``images``."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from kdpose.formats.coco_file import CocoFile, image_size, list_images
from kdpose.skeletons.known import CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head",
)  # fmt: skip
_ORDER = [_JOINTS.index(joint) for joint in CROWDPOSE.joints]


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read the single person of each image, with joints in CrowdPose's order.

    The third value of the original is 1 for hidden joints; that of the extended set is 0 for
    unlabelled ones. Their shapes differ: (3, 14, N) and (14, 3, N).

    Args:
        source: ``joints.mat``.
        images: folder of the photographs; None: ``images`` beside the file.
        skeleton: must be None or of these joints.
    """
    if skeleton is not None and skeleton.joints != CROWDPOSE.joints:
        raise ValueError("from=lsp writes CrowdPose's 14 joints: remove skeleton=")
    if not source.is_file():
        raise FileNotFoundError(f"no joints.mat at {source.absolute()} (from source)")
    try:
        joints = np.asarray(loadmat(source)["joints"], dtype=np.float64)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{source.absolute()} (from source) is not a joints.mat: {error}"
        ) from None
    if joints.ndim != 3 or joints.shape[:2] not in ((3, 14), (14, 3)):
        raise ValueError(f"{source.absolute()}: joints must be (3, 14, N) or (14, 3, N)")
    original = joints.shape[0] == 3
    points = joints.transpose(2, 1, 0) if original else joints.transpose(2, 0, 1)
    points = points[:, _ORDER].copy()
    third = points[..., 2] > 0
    points[..., 2] = np.where(third, 1, 2) if original else np.where(third, 2, 0)
    files = list_images(images or source.parent / "images")
    if len(files) != len(points):
        raise ValueError(f"{source.absolute()} has {len(points)} persons and {len(files)} images")
    file = CocoFile(CROWDPOSE)
    for path, person in zip(files, points, strict=True):
        file.add_image(path.name, *image_size(path))
        if (person[:, 2] > 0).any():
            file.add_person(person)
    return file.to_dict()
