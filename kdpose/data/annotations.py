"""COCO-format annotations as arrays of persons; no pixels are read here."""

import gc
import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.keypoints import Skeleton

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Persons:
    """N persons of one split, one row each.

    Attributes:
        files: ``(N,)`` image file names, as the annotation file spells them.
        image_id: ``(N,)`` int64.
        image_size: ``(N, 2)`` width and height of the image, pixels.
        box: ``(N, 4)`` x, y, width, height, image pixels.
        box_score: ``(N,)``, 1 for ground truth.
        joints: ``(N, K, 2)`` image pixels; zeros for detections.
        visible: ``(N, K)`` COCO's v; zeros for detections.
    """

    files: NDArray[np.str_]
    image_id: NDArray[np.int64]
    image_size: NDArray[np.float32]
    box: NDArray[np.float32]
    box_score: NDArray[np.float32]
    joints: NDArray[np.float32]
    visible: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of persons N."""
        return len(self.image_id)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Persons":
        """Some of the persons."""
        return Persons(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def read_json(path: str | Path, key: str) -> Any:  # noqa: ANN401
    """Read a JSON file; ``key`` is the config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        where = f"at {path.absolute()} (from {key})"
        if "annotations" not in key:
            raise FileNotFoundError(f"no file {where}")
        raise FileNotFoundError(
            f"no annotations {where}; set dataset.root or KDPOSE_DATA to where the data lies"
        )
    collecting = gc.isenabled()
    gc.disable()  # there is no garbage, and looking for it takes a third of the time
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.absolute()} (from {key}) is not JSON: {error}") from None
    finally:
        if collecting:
            gc.enable()


def _clean_box(box: list[float], width: int, height: int) -> tuple[float, float, float, float]:
    """Clip a box to the image as HRNet's code does; zero size where nothing is left."""
    x, y, w, h = box
    x1, y1 = max(0.0, x), max(0.0, y)
    x2 = min(width - 1.0, x1 + max(0.0, w - 1))
    y2 = min(height - 1.0, y1 + max(0.0, h - 1))
    return x1, y1, x2 - x1, y2 - y1


def upright(data: dict[str, Any], where: str) -> dict[int, dict[str, Any]]:
    """The images by id, width and height exchanged where all boxes fit in the image only so.

    Some releases of CrowdPose's annotations have them swapped, which would cut boxes off.
    """
    images = {image["id"]: image for image in data["images"]}
    reach: dict[int, tuple[float, float]] = {}
    for person in data["annotations"]:
        if person["image_id"] in images and person.get("bbox"):
            x, y, w, h = person["bbox"]
            right, bottom = reach.get(person["image_id"], (0, 0))
            reach[person["image_id"]] = max(right, x + w), max(bottom, y + h)
    slack = 1  # pixel: files round
    swapped = 0
    for number, (right, bottom) in reach.items():
        width, height = images[number]["width"] + slack, images[number]["height"] + slack
        if (right > width or bottom > height) and right <= height and bottom <= width:
            images[number] = {**images[number], "width": height - slack, "height": width - slack}
            swapped += 1
    if swapped:
        _log.warning("%s: %d images have width and height swapped; repaired", where, swapped)
    return images


def load_persons(
    annotations: str | Path, skeleton: Skeleton, key: str = "dataset.annotations"
) -> Persons:
    """Read the persons that have a box and at least one labelled joint; crowds are left out.

    Args:
        annotations: COCO-keypoints JSON.
        skeleton: what the file's joints must agree with in number.
        key: config key of the path, for errors.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no COCO-keypoints file, its joints do not fit the skeleton, or nobody
            in it has a labelled joint.
    """
    data = read_json(annotations, key)
    where = f"{Path(annotations).absolute()} (from {key})"
    if not isinstance(data, dict) or not {"images", "annotations"} <= data.keys():
        raise ValueError(f"{where} is no COCO-keypoints file: it needs 'images' and 'annotations'")
    images = upright(data, where)
    rows: list[tuple[Any, ...]] = []
    for person in data["annotations"]:
        keypoints = person.get("keypoints") or []
        if keypoints and len(keypoints) != 3 * len(skeleton):
            raise ValueError(
                f"{where} has {len(keypoints) / 3:g} joints per person and skeleton "
                f"'{skeleton.name}' has {len(skeleton)}; take dataset=custom or another skeleton"
            )
        image = images.get(person["image_id"])
        if image is None or person.get("iscrowd") or not any(keypoints[2::3]):
            continue
        box = _clean_box(person["bbox"], image["width"], image["height"])
        if person.get("area", 1) > 0 and box[2] > 0 and box[3] > 0:
            rows.append((image, box, keypoints))
    if not rows:
        raise ValueError(
            f"{where}: none of {len(data['annotations'])} persons has a labelled joint"
        )
    keypoints = np.array([row[2] for row in rows], dtype=np.float32)
    keypoints = keypoints.reshape(len(rows), len(skeleton), 3)
    return Persons(
        files=np.array([row[0]["file_name"] for row in rows]),
        image_id=np.array([row[0]["id"] for row in rows], dtype=np.int64),
        image_size=np.array([(r[0]["width"], r[0]["height"]) for r in rows], dtype=np.float32),
        box=np.array([row[1] for row in rows], dtype=np.float32),
        box_score=np.ones(len(rows), dtype=np.float32),
        joints=np.ascontiguousarray(keypoints[..., :2]),
        visible=np.ascontiguousarray(keypoints[..., 2]),
    )


def concatenate(*parts: Persons) -> Persons:
    """The persons of several lists as one, in order."""
    names = [field.name for field in fields(Persons)]
    return Persons(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def count(annotations: str | Path) -> tuple[int, int]:
    """Numbers of images, and of persons who are to be found: labelled and no crowd."""
    data = read_json(annotations, "annotations")
    if not isinstance(data, dict) or not data.get("images"):
        raise ValueError(f"{Path(annotations).absolute()} (from annotations) lists no 'images'")
    persons = [
        person
        for person in data.get("annotations") or ()
        if not person.get("iscrowd")
        and person.get("num_keypoints", any((person.get("keypoints") or ())[2::3]))
    ]
    return len(data["images"]), len(persons)
