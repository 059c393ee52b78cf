"""Files of person detections, ``[{image_id, category_id, bbox, score}]``."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kdpose.data.annotations import Persons, count, read_json
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_PERSON = 1  # COCO's and CrowdPose's category
_CROWDPOSE_TEST = "det_for_crowd_test_0.1_0.5.json"
_TEST_DEV = "COCO_test-dev2017_detections_AP_H_609_person.json"
_USUAL = {  # the detector file that published figures of a split come from
    "person_keypoints_val2017": "COCO_val2017_detections_AP_H_56_person.json",
    "image_info_test-dev2017": _TEST_DEV,
    "person_keypoints_test-dev2017": _TEST_DEV,
    "person_keypoints_test-dev-2017": _TEST_DEV,
    "crowdpose_test": _CROWDPOSE_TEST,
    "mmpose_crowdpose_test": _CROWDPOSE_TEST,
}


def usual_detections(annotations: str | Path) -> tuple[Path | None, list[Path]]:
    """The detector file that published figures of a split were computed with.

    It is looked for beside the annotation file, one folder up, and there in
    ``person_detection_results``, where HRNet's and SimCC's code have it.

    Returns:
        The file or None, and the places where it was looked for.
    """
    path = Path(annotations).absolute()
    name = _USUAL.get(path.stem)
    if name is None:
        return None, []
    root = path.parent.parent
    places = [root / "person_detection_results" / name, path.parent / name, root / name]
    return next((place for place in places if place.is_file()), None), places


def box_sources(boxes: str | Sequence[str], annotations: Path) -> dict[str, str]:
    """The box sources that are meant, ``gt`` or a path, by the name that a table gives them.

    Args:
        boxes: ``gt``, a detections JSON, several of these, or ``auto``: ground truth, where the
            annotation file has persons, and the detector file that published figures of the split
            come from, where it lies in its usual place.
        annotations: annotation file.

    Raises:
        FileNotFoundError: ``auto`` finds neither.
        ValueError: ground truth is asked for and there is none, or a name comes twice.
    """
    wanted = [boxes] if isinstance(boxes, str) else list(boxes)
    labelled = count(annotations)[1] > 0
    if wanted == ["auto"]:
        found, places = usual_detections(annotations)
        wanted = ["gt"] * labelled + ([str(found)] if found else [])
        if places and not found:
            missing = f"no {places[0].name} in {', '.join(str(p.parent) for p in places)}"
            if not labelled:
                raise FileNotFoundError(f"{missing}: set boxes=DETECTIONS.json")
            _log.warning("%s: ground-truth boxes alone are scored", missing)
    if "gt" in wanted and not labelled:
        raise ValueError(
            f"{annotations.absolute()} (from annotations) has no labelled persons, so no "
            "ground-truth boxes: set boxes=DETECTIONS.json"
        )
    named = {source if source == "gt" else Path(source).name: source for source in wanted}
    if not wanted or len(named) < len(wanted):
        raise ValueError(f"boxes must name one or more files of different names, got {wanted}")
    return named


def load_detections(
    detections: str | Path,
    annotations: str | Path,
    skeleton: Skeleton,
    key: str = "boxes",
) -> Persons:
    """Read the persons that a detector found in a file's images.

    Boxes are taken as they are, even where they leave the image. Those of other categories, of
    images that the file does not have, and without an area are left out.

    Raises:
        FileNotFoundError: one of the files is not there.
        ValueError: the file does not hold boxes, or no box is left, or they are corners instead of
            x, y, width, height, with the counts.
    """
    where = f"{Path(detections).absolute()} (from {key})"
    boxes = read_json(detections, key)
    _check_format(boxes, where)
    truth = read_json(annotations, "annotations")
    if not isinstance(truth, dict) or not truth.get("images"):
        raise ValueError(f"{Path(annotations).absolute()} (from annotations) lists no 'images'")
    images = {image["id"]: image for image in truth["images"]}
    persons = [box for box in boxes if box.get("category_id", _PERSON) == _PERSON]
    if not persons:
        seen = sorted({box.get("category_id") for box in boxes})
        raise ValueError(
            f"0 of {len(boxes)} boxes of {where} are persons: category_id must be {_PERSON}, "
            f"it has {seen[:5]}"
        )
    kept = [box for box in persons if box["image_id"] in images and min(box["bbox"][2:]) > 0]
    if not kept:
        raise ValueError(
            f"0 of {len(boxes)} boxes of {where} lie in the {len(images)} images of "
            f"{Path(annotations).absolute()}: take the detections of the same split"
        )
    owners = [images[box["image_id"]] for box in kept]
    corners = np.array([box["bbox"] for box in kept], dtype=np.float32)
    sizes = np.array([(i["width"], i["height"]) for i in owners], dtype=np.float32)
    _check_corners(corners, sizes, where)
    shape = (len(kept), len(skeleton))
    return Persons(
        files=np.array([image["file_name"] for image in owners]),
        image_id=np.array([image["id"] for image in owners], dtype=np.int64),
        image_size=sizes,
        box=corners,
        box_score=np.array([box.get("score", 1.0) for box in kept], dtype=np.float32),
        joints=np.zeros((*shape, 2), dtype=np.float32),
        visible=np.zeros(shape, dtype=np.float32),
    )


def _check_format(boxes: Any, where: str) -> None:  # noqa: ANN401
    wanted = "must be a list of {image_id, category_id, bbox: [x, y, width, height], score}"
    if not isinstance(boxes, list) or not boxes:
        raise ValueError(f"{where} {wanted}, got {_shown(boxes)}")
    for index, box in enumerate(boxes):
        if (
            not isinstance(box, Mapping)
            or "image_id" not in box
            or not isinstance(box.get("bbox"), Sequence)
            or len(box["bbox"]) != 4
        ):
            raise ValueError(f"{where} {wanted}, got {_shown(box)} as number {index}")


def _shown(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, Mapping):
        return f"a dict of {sorted(map(str, value))[:5]}"
    return "an empty list" if value == [] else f"a {type(value).__name__}"


def _check_corners(boxes: np.ndarray, sizes: np.ndarray, where: str) -> None:
    """Refuse x1, y1, x2, y2: read as x, y, width, height, most such boxes leave their image.

    Args:
        boxes: ``(N, 4)``.
        sizes: ``(N, 2)`` widths and heights of their images.
        where: the file, for the error.
    """
    slack = 1.0  # pixel: files round
    first, second = boxes[:, :2], boxes[:, 2:]
    valid_corners = ((second > first) & (second <= sizes + slack)).all(axis=1)
    leaving = (first + second > sizes + slack).any(axis=1)
    if valid_corners.mean() > 0.99 and leaving.mean() > 0.5:
        raise ValueError(
            f"{leaving.sum()} of {len(boxes)} boxes of {where} leave their image as x, y, width, "
            "height, and none does as x1, y1, x2, y2: write them as [x1, y1, x2 - x1, y2 - y1]"
        )
