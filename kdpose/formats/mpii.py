"""MPII Human Pose as the JSON lists that HRNet's and SimCC's code read (train.json, valid.json)."""

from pathlib import Path
from typing import Any

import numpy as np

from kdpose.formats.coco_file import CocoFile, image_size
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.known import default_sigmas
from kdpose.skeletons.skeleton import Skeleton

_JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
    "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
    "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
MPII = Skeleton(
    name="mpii",
    joints=_JOINTS,
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (7, 12), (12, 11),
        (11, 10), (7, 13), (13, 14), (14, 15),
    ),
    sigmas=default_sigmas(_JOINTS),
    upper_body=tuple(range(7, 16)),
    sigma_source="default",
)  # fmt: skip
_PERSON_HEIGHT = 200  # pixels at MPII's scale 1
_RAISED = 15  # pixels at scale 1 by which HRNet's code moves the centre down


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read one list of ``{image, joints, joints_vis, center, scale}``.

    Coordinates count from 1, as in Matlab, and are shifted to 0. The box is the square of 200
    scale pixels around the centre that the field's code crops. ``joints_vis`` marks labelled
    joints and has no information on occlusion.

    Args:
        source: the JSON.
        images: folder of the photographs, for their sizes.
        skeleton: must be None, since MPII has its own.
    """
    if images is None or skeleton is not None:
        raise ValueError("from=mpii needs images=FOLDER for the sizes; remove skeleton=")
    entries = read_json(source, "source")
    keys = {"image", "joints", "joints_vis", "center", "scale"}
    if not isinstance(entries, list) or not all(keys <= set(entry) for entry in entries):
        raise ValueError(
            f"{source.absolute()} (from source) must list {{{', '.join(sorted(keys))}}}"
        )
    by_image: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_image.setdefault(entry["image"], []).append(entry)
    file = CocoFile(MPII)
    for name, persons in by_image.items():
        width, height = image_size(images / name)
        file.add_image(name, width, height)
        for person in persons:
            points = np.array(person["joints"], dtype=np.float64) - 1
            shown = np.array(person["joints_vis"], dtype=np.float64) > 0
            x, y = np.array(person["center"], dtype=np.float64) - 1
            side = _PERSON_HEIGHT * float(person["scale"])
            y += _RAISED * float(person["scale"])
            left, top = max(x - side / 2, 0), max(y - side / 2, 0)
            right, bottom = min(x + side / 2, width), min(y + side / 2, height)
            box = (left, top, right - left, bottom - top)
            file.add_person(np.column_stack([points, 2 * shown]), box)
    return file.to_dict()
