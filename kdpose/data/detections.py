"""Files of person detections, ``[{image_id, category_id, bbox, score}]``."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.data.annotations import Persons
from kdpose.data.boxes import check_corners
from kdpose.data.results import detections
from kdpose.runtime.annotation_file import (
    AnnotationFile,
    Annotations,
    check_lists,
    say_once,
    tidied,
)
from kdpose.runtime.categories import category_id, classes, people, plain_id
from kdpose.runtime.files import check_file
from kdpose.runtime.json_text import read_json
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


def box_sources(boxes: str | Sequence[str], annotations: Annotations) -> dict[str, str]:
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
    file = AnnotationFile.of(annotations)
    labelled = file.counts()[1] > 0
    if wanted == ["auto"]:
        found, places = usual_detections(file.path)
        wanted = ["gt"] * labelled + ([str(found)] if found else [])
        if places and not found:
            missing = f"no {places[0].name} in {', '.join(str(p.parent) for p in places)}"
            if not labelled:
                raise FileNotFoundError(f"{missing}: set boxes=DETECTIONS.json")
            _log.warning("%s: ground-truth boxes alone are scored", missing)
    if "gt" in wanted and not labelled:
        raise ValueError(
            f"{file.path} (from annotations) has no labelled persons, so no "
            "ground-truth boxes: set boxes=DETECTIONS.json"
        )
    named = {source if source == "gt" else Path(source).name: source for source in wanted}
    if not wanted or len(named) < len(wanted):
        raise ValueError(f"boxes must name one or more files of different names, got {wanted}")
    return named


@dataclass(frozen=True)
class BoxTable:
    """The N boxes of persons in a JSON file, in its order.

    Attributes:
        image_id: ``(N,)`` int64.
        box: ``(N, 4)`` float64 x, y, width, height, image pixels.
        score: ``(N,)`` float32, 1 where the file has none.
        category: ``(N,)`` int64 ids of their categories, -1 for none.
        scored: whether the file has scores.
        annotated: whether it is an annotation file.
        total: all boxes of the file, those of other categories included.
        where: the file and its key, for messages.
    """

    image_id: NDArray[np.int64]
    box: NDArray[np.float64]
    score: NDArray[np.float32]
    category: NDArray[np.int64]
    scored: bool
    annotated: bool
    total: int
    where: str

    def __len__(self) -> int:
        """Number of boxes N."""
        return len(self.image_id)


def read_boxes(
    path: str | Path,
    key: str = "boxes",
    annotated: bool = False,
    category: str | int | None = None,
    wanted: Collection[Any] = (_PERSON,),
    images: str | Path | None = None,
) -> BoxTable:
    """Read the boxes of persons. Other categories, crowds and boxes without an area are left out.

    So are detections whose box or score is null, text, or not finite, with a warning.

    Args:
        path: JSON list of ``{image_id, category_id, bbox, score}``.
        key: config key of the path, for errors.
        annotated: also accept an annotation file, whose categories with keypoints are persons.
        category: the name or id of the only category to take; of a list, the id.
        wanted: ids of the categories to take of a list.
        images: folder of the image files, for sizes that an annotation file lacks.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it does not hold boxes, or none of a person.
    """
    where = f"{Path(path).absolute()} (from {key})"
    content = read_json(path, key)
    labelled = annotated and isinstance(content, dict) and "annotations" in content
    if labelled:
        rows = _tidied_persons(check_lists(content, where), category, images, where)
    else:
        rows = _detected_persons(content, wanted if category is None else [category], where)
    total = len((content["annotations"] or ()) if labelled else content)
    return _table(_with_area(rows, where), labelled, total, where)


def _table(kept: Sequence[Any], annotated: bool, total: int, where: str) -> BoxTable:
    return BoxTable(
        image_id=np.array([row["image_id"] for row in kept], dtype=np.int64),
        box=np.array([row["bbox"] for row in kept], dtype=np.float64).reshape(-1, 4),
        score=np.array([row.get("score", 1.0) for row in kept], dtype=np.float32),
        category=np.array([_number(category_id(row)) for row in kept], dtype=np.int64),
        scored=any("score" in row for row in kept),
        annotated=annotated,
        total=total,
        where=where,
    )


def _tidied_persons(
    content: Mapping[str, Any], category: str | int | None, images: str | Path | None, where: str
) -> list[Any]:
    rows = _annotated_persons(content, category, where)
    found = tidied({**content, "annotations": rows}, Path(images) if images else None)
    found.check(where)
    return found.persons


def _with_area(rows: Sequence[Any], where: str) -> list[Any]:
    """Those that are no crowds and whose boxes have an area; says how many are left out."""
    crowds = sum(bool(row.get("iscrowd")) for row in rows)
    if crowds:
        say_once(f"{where}: {crowds} boxes of crowds are left out")
    boxed = [row for row in rows if not row.get("iscrowd") and "bbox" in row]
    kept = [row for row in boxed if min(row["bbox"][2:]) > 0]
    if len(kept) < len(boxed):
        say_once(f"{where}: {len(boxed) - len(kept)} boxes without an area are left out")
    return kept


def _only(kinds: Sequence[Any]) -> int:
    return _number(kinds[0]) if kinds else _PERSON


def _number(kind: Any) -> int:
    return kind if isinstance(kind, int) else -1


def _annotated_persons(
    content: Mapping[str, Any], category: str | int | None, where: str
) -> list[Any]:
    """The annotations of the categories that have keypoints, or of the one that is asked for.

    If none has keypoints, those of ``person``; without a list of categories those of number 1, if
    there are any; else all.
    """
    rows, categories = content["annotations"] or [], content.get("categories")
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{where}: 'annotations' must be a list of objects")
    if not categories and category is None:
        return [row for row in rows if category_id(row) in (None, _PERSON)] or list(rows)
    chosen = people(categories, category, where, alike=False)
    if not chosen.ids and any(c.get("name") == "person" for c in categories or ()):
        chosen = people(categories, "person", where)
    kept = [row for row in rows if chosen.has(row)]
    others = Counter(category_id(row) for row in rows if not chosen.has(row))
    if others and category is None:
        counted = ", ".join(f"{n} of {name}" for name, n in chosen.told(others).items())
        said = "%s: boxes of categories without keypoints are left out: %s; category=NAME takes one"
        _log.warning(said, where, counted)
    if not kept:
        raise ValueError(f"0 of {len(rows)} boxes of {where} are of category {category}")
    return kept


def _detected_persons(content: Any, wanted: Collection[Any], where: str) -> list[Any]:
    """The boxes of a list that are of wanted categories, or of none."""
    rows = detections(content, where)
    ids = {plain_id(one) for one in wanted} | {None}
    kept = [row for row in rows if category_id(row) in ids]
    seen = sorted({category_id(row) for row in rows}, key=str)
    if not kept:
        one = " or ".join(str(i) for i in ids if i is not None)
        raise ValueError(
            f"0 of {len(rows)} boxes of {where} are persons: category_id must be {one}, "
            f"it has {seen[:5]}; category=ID takes another"
        )
    if len(kept) < len(rows):
        say_once(f"{where}: {len(rows) - len(kept)} boxes of other categories are left out")
    return kept


def load_detections(
    detections: str | Path, annotations: Annotations, skeleton: Skeleton, key: str = "boxes"
) -> Persons:
    """Read the persons that a detector found in a file's images, see :func:`read_boxes`.

    Boxes are taken even where they leave the image, not where the file does not have it.

    Raises:
        FileNotFoundError: one of the files is not there.
        ValueError: the file does not hold boxes, or no box is left, or they are corners instead of
            x, y, width, height, with the counts.
    """
    check_file(detections, key)
    file = AnnotationFile.of(annotations)
    kinds = list(classes(file.content))
    boxes = read_boxes(detections, key, wanted=kinds if len(kinds) > 1 else [*kinds, _PERSON])
    images = {image["id"]: image for image in file.images()}
    rows = np.flatnonzero([i in images for i in boxes.image_id.tolist()])
    if not len(rows):
        raise ValueError(
            f"0 of {boxes.total} boxes of {boxes.where} lie in the {len(images)} images of "
            f"{file.path}: take the detections of the same split"
        )
    if len(rows) < len(boxes):
        say_once(f"{boxes.where}: {len(boxes) - len(rows)} boxes of other images are left out")
    owners = [images[i] for i in boxes.image_id[rows].tolist()]
    corners = boxes.box[rows].astype(np.float32)
    sizes = np.array([(i["width"], i["height"]) for i in owners], dtype=np.float32)
    check_corners(corners, sizes, boxes.where)
    return Persons(
        files=np.array([image["file_name"] for image in owners]),
        image_id=boxes.image_id[rows],
        image_size=sizes,
        box=corners,
        box_score=boxes.score[rows],
        joints=np.zeros((len(rows), len(skeleton), 2), dtype=np.float32),
        visible=np.zeros((len(rows), len(skeleton)), dtype=np.float32),
        category=boxes.category[rows] if len(kinds) > 1 else np.full(len(rows), _only(kinds)),
    )
