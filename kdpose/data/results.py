"""Files of poses and of boxes that were found: lists of objects with an ``image_id``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdpose.runtime.annotation_file import say_once
from kdpose.runtime.coco_schema import Misfit, Notes, empty, numbers, result_entry, shown, whole
from kdpose.runtime.json_text import read_json


def read_poses(path: str | Path, key: str, scored: bool = True) -> list[dict[str, Any]]:
    """Read COCO keypoint results.

    Args:
        path: of the JSON.
        key: config key of the path, for errors.
        scored: each must have a score.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not a list of results, or one of them cannot be used.
    """
    where = f"{Path(path).absolute()} (from {key})"
    content = read_json(path, key)
    if not isinstance(content, list) or not all(isinstance(r, dict) for r in content):
        raise ValueError(
            f"{where} must be a list of {{image_id, category_id, keypoints, score}}, got a "
            f"{type(content).__name__}, not a list of COCO keypoint results"
        )
    notes, results = Notes(), list[dict[str, Any]]()
    for index, result in enumerate(content):
        try:
            results.append(result_entry(result, notes, scored))
        except Misfit as error:
            raise ValueError(f"{where}: result {index} {error}") from None
    for note, count in notes.items():
        if count:
            say_once(f"{where}: {count} {note}")
    return results


def detections(content: Any, where: str) -> list[dict[str, Any]]:
    """The entries of a detections file that can be used; how many others there are is said.

    Args:
        content: the parsed JSON.
        where: the file and its key, for messages.

    Raises:
        ValueError: it is not a list of detections, or none can be used.
    """
    _check_boxed(content, where)
    scored = any(not empty(row.get("score")) for row in content)
    notes, kept = Notes(), list[dict[str, Any]]()
    left_out: dict[str, list[Any]] = {"bbox": [], "score": []}
    for index, row in enumerate(content):
        try:
            row = {**row, "image_id": whole(row, "image_id", notes)}
        except Misfit as error:
            raise ValueError(f"{where}: detection number {index} {error}") from None
        if not numbers(row["bbox"], 4):
            left_out["bbox"].append(row["bbox"])
        elif scored and not numbers([row.get("score", 1.0)]):
            left_out["score"].append(row["score"])
        else:
            kept.append(row if scored else {k: v for k, v in row.items() if k != "score"})
    unscored = sum("score" not in row for row in kept)
    if scored and unscored:
        say_once(f"{where}: {unscored} of {len(content)} detections have no score: taken as 1")
    for key, values in left_out.items():
        if values:
            say_once(
                f"{where}: {len(values)} of {len(content)} detections are left out, whose {key} is "
                f"not finite, such as {shown(values[0])}"
            )
    if not kept:
        raise ValueError(f"{where}: none of {len(content)} detections has a finite bbox and score")
    return kept


def _check_boxed(content: Any, where: str) -> None:
    wanted = "must be a list of {image_id, category_id, bbox: [x, y, width, height], score}"
    if not isinstance(content, list) or not content:
        raise ValueError(f"{where} {wanted}, got {_shown(content)}")
    for index, row in enumerate(content):
        has = isinstance(row, Mapping) and "image_id" in row and "bbox" in row
        if not has or (isinstance(row["bbox"], list) and len(row["bbox"]) not in (0, 4)):
            raise ValueError(f"{where} {wanted}, got {_shown(row)} as number {index}")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {sorted(map(str, value))[:5]}"
    return "an empty list" if value == [] else f"a {type(value).__name__}"
