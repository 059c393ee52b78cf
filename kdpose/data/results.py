"""Files of poses that were found, ``[{image_id, category_id, keypoints, score}]``."""

from pathlib import Path
from typing import Any

from kdpose.runtime.annotation_file import say_once
from kdpose.runtime.coco_schema import Misfit, Notes, result_entry
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
