"""The zip file that COCO's evaluation server (CodaLab) takes."""

import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_KEYS = ("image_id", "category_id", "keypoints", "score")


def write_submission(
    path: str | Path, results: Sequence[Mapping[str, Any]], split: str, algorithm: str
) -> Path:
    """Write results in the server's form: a zip with one JSON file of a given name.

    Args:
        path: of the zip.
        results: COCO keypoint results; keys unknown to the server are dropped.
        split: the annotation file's stem, such as ``image_info_test-dev2017``.
        algorithm: name of the submission.

    Returns:
        The path.

    Raises:
        ValueError: the path does not end in ``.zip``.
    """
    path = Path(path)
    if path.suffix != ".zip":
        raise ValueError(f"{path.absolute()} (from submission) must end in .zip")
    testset = split.removeprefix("image_info_").removeprefix("person_keypoints_")
    name = re.sub(r"[^A-Za-z0-9-]+", "-", algorithm).strip("-")
    content = json.dumps([{key: result[key] for key in _KEYS} for result in results])
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"person_keypoints_{testset}_{name}_results.json", content)
    return path
