"""Build a COCO-keypoints file; ids, boxes, areas and counts are derived from joints."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kdpose.metrics.people import BOX_TO_BODY
from kdpose.runtime.coco_schema import box_around
from kdpose.runtime.image_header import pictures, upright_size
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


class CocoFile:
    """A file to which images and persons are added one by one.

    Args:
        skeleton: of all persons; its sigmas and flip pairs go into the file's categories.
        names: of the categories, which count from 1; None: one, ``person``.
    """

    def __init__(self, skeleton: Skeleton, names: Sequence[str] | None = None) -> None:
        self.skeleton = skeleton
        self.names = list(names or ["person"])
        self.images: list[dict[str, Any]] = []
        self.persons: list[dict[str, Any]] = []

    def add_image(self, file_name: str, width: int, height: int) -> None:
        """Add the image of the persons that follow."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": file_name, "width": width, "height": height})

    def add_person(self, keypoints: ArrayLike, box: Sequence[float] | None = None) -> None:
        """Add a person to the last image.

        Args:
            keypoints: ``(K, 3)`` x, y, v, image pixels; x and y are ignored if v is 0.
            box: x, y, width, height; None: the extent of the labelled joints plus a tenth.

        Raises:
            ValueError: the number of joints is not K, or there is no box and no labelled joint.
        """
        image = self.images[-1]
        points = np.array(keypoints, dtype=np.float64)
        if points.shape != (len(self.skeleton), 3):
            raise ValueError(
                f"{image['file_name']}: a person must have the {len(self.skeleton)} joints of "
                f"skeleton '{self.skeleton.name}', got {len(points)}"
            )
        points[points[:, 2] == 0] = 0
        known = points[points[:, 2] > 0, :2]
        if box is None and not len(known):
            raise ValueError(f"{image['file_name']}: a person has no box and no labelled joint")
        if box is None:
            box = box_around(points.reshape(-1).tolist(), (image["width"], image["height"]))
        self.persons.append(
            {
                "id": len(self.persons) + 1,
                "image_id": image["id"],
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [round(float(value), 2) for value in box],
                "area": round(BOX_TO_BODY * float(box[2]) * float(box[3]), 2),
                "num_keypoints": len(known),
                "keypoints": [
                    value
                    for x, y, v in points.tolist()
                    for value in (round(x, 2), round(y, 2), int(v))
                ],
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """The file's content."""
        return {
            "images": self.images,
            "annotations": self.persons,
            "categories": [
                category(self.skeleton) | {"id": number, "name": name}
                for number, name in enumerate(self.names, start=1)
            ],
        }


def category(skeleton: Skeleton) -> dict[str, Any]:
    """A COCO category with all parts of the skeleton."""
    facts = skeleton.to_category()
    if skeleton.sigma_source != "default":
        facts |= {"sigmas": list(skeleton.sigmas), "sigma_source": skeleton.sigma_source}
    if skeleton.flip_pairs is not None:
        facts["flip_pairs"] = [list(pair) for pair in skeleton.flip_pairs]
    return facts


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from a file's header, upright: labelling tools show photographs so.

    Training turns the pixels where the annotated size is the upright one.

    Raises:
        FileNotFoundError: the file does not exist.
        UnreadableImage: it is not an image.
    """
    try:
        return upright_size(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}: set images=FOLDER") from None


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, sorted by name.

    Raises:
        FileNotFoundError: there are none.
    """
    found, others = pictures(folder.rglob("*"))
    if others:
        _log.warning(
            "%s: %d pictures of formats that are not read, such as %s, are skipped",
            folder.absolute(),
            len(others),
            others[0].name,
        )
    if not found:
        raise FileNotFoundError(f"no images in {folder.absolute()} (from images)")
    return found
