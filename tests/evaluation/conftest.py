"""A synthetic data set's annotations and detections."""

import json

import numpy as np
import pytest


@pytest.fixture(scope="module")
def truth(crowd):
    return crowd / "annotations" / "crowdpose_test.json"


@pytest.fixture
def detections(truth, tmp_path):
    """A detector's file: every person twice, somewhat off."""
    rng = np.random.default_rng(0)
    boxes = [
        {
            "image_id": person["image_id"],
            "category_id": 1,
            "bbox": (np.array(person["bbox"]) * rng.uniform(0.9, 1.1, 4)).tolist(),
            "score": float(rng.random()),
        }
        for person in json.loads(truth.read_text())["annotations"] * 2
    ]
    (tmp_path / "det.json").write_text(json.dumps(boxes))
    return tmp_path / "det.json"
