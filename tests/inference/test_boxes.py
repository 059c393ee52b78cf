import json

import numpy as np
import pytest
import torch
from PIL import Image

from kdpose.inference.boxes import BoxCut, FileBoxes, box_source, whole_image
from kdpose.inference.detector import DetectorChoice

PICTURE = Image.new("RGB", (80, 60))
ROWS = [
    {"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9},
    {"image_id": 3, "category_id": 2, "bbox": [5, 5, 30, 40], "score": 0.9},
    {"image_id": 3, "bbox": [4, 2, 30, 0]},
    {"image_id": 3, "bbox": [7, 2, 30, 10]},
    {"image_id": 3, "bbox": [0, 0, 80, 60], "iscrowd": 1},
]


def test_the_whole_picture():
    boxes, scores = whole_image(PICTURE, 1)
    assert (boxes.tolist(), scores.tolist()) == ([[0, 0, 80, 60]], [1])


@pytest.mark.parametrize("annotated", [False, True])
def test_detections_and_annotations(tmp_path, annotated):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"annotations": ROWS} if annotated else ROWS))
    unused = DetectorChoice("none", None, 0.5)
    source = box_source(str(path), unused, torch.device("cpu"), ids=[3, 9])
    boxes, scores = source(PICTURE, 3)
    one = 1 if annotated else 0  # the last pixel of a labelled box is inside it, as in evaluation
    assert boxes.tolist() == [[1, 2, 30 - one, 40 - one], [7, 2, 30 - one, 10 - one]]
    np.testing.assert_allclose(scores, [0.9, 1.0])
    assert [part.shape for part in source(PICTURE, 9)] == [(0, 4), (0,)]  # nobody there


def test_files_that_do_not_fit(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(ROWS))
    with pytest.raises(
        ValueError, match=r"belongs to the 2 images of source: their ids are \[1, 2"
    ):
        FileBoxes(str(path), [1, 2])
    path.write_text('[{"box": [1, 2, 3, 4]}]')
    with pytest.raises(ValueError, match=r"boxes\.json \(from boxes\) must be a list of {image_id"):
        FileBoxes(str(path))
    with pytest.raises(FileNotFoundError, match=r"none\.json \(from boxes\)"):
        FileBoxes(str(tmp_path / "none.json"))


def scored(image_id, score, *bbox):
    return {"image_id": image_id, "category_id": 1, "bbox": list(bbox), "score": score}


def test_detections_are_cut_by_score_and_overlap(tmp_path):
    """Of a detector's 100 boxes an image, those of the two persons in it."""
    rng = np.random.default_rng(0)
    persons = [(10, 10, 20, 40), (45, 12, 20, 40)]
    rows = [scored(1, 0.9 - 0.01 * n, *np.add(persons[n % 2], rng.uniform(-1, 1, 4)))
            for n in range(20)]  # fmt: skip
    rows += [scored(1, 0.3, *rng.uniform(1, 30, 4)) for _ in range(80)]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(rows))
    boxes, scores = FileBoxes(str(path))(PICTURE, 1)
    np.testing.assert_allclose(boxes, [rows[0]["bbox"], rows[1]["bbox"]], rtol=1e-6)
    np.testing.assert_allclose(scores, [0.9, 0.89])
    assert len(FileBoxes(str(path), cut=BoxCut(0.0, 1.0))(PICTURE, 1)[0]) == 100
    assert len(FileBoxes(str(path), cut=BoxCut(0.8, 1.0))(PICTURE, 1)[0]) == 11


@pytest.mark.parametrize("annotated", [False, True])
def test_labelled_boxes_are_not_cut(tmp_path, annotated):
    rows = [{"image_id": 1, "bbox": [10, 10, 20, 40]}] * 3
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"annotations": rows} if annotated else rows))
    assert len(FileBoxes(str(path))(PICTURE, 1)[0]) == 3


def test_a_category_is_of_a_file():
    unused = DetectorChoice("none", None, 0.5)
    with pytest.raises(ValueError, match=r"category=2 chooses among the boxes of a file"):
        box_source("auto", unused, torch.device("cpu"), category=2)


def test_what_is_left_out_is_said(tmp_path, caplog):
    path = tmp_path / "boxes.json"
    rows = [
        scored(1, 0.9, 10, 10, 20, 40),
        scored(1, 0.8, 10, 11, 20, 40),
        scored(1, 0.1, 45, 12, 20, 40),
        scored(2, 0.1, 45, 12, 20, 40),  # of another picture
    ]
    path.write_text(json.dumps(rows))
    with caplog.at_level("INFO"):
        source = FileBoxes(str(path), [1])
    assert len(source(PICTURE, 1)[0]) == 1
    assert "boxes left out: 1 have scores below 0.5 (detector.threshold), 1 overlap" in caplog.text
    path.write_text(json.dumps({"annotations": [{"image_id": 1, "bbox": [5, 5, 0.3, 9]}, ROWS[0]]}))
    with caplog.at_level("INFO"):
        assert len(FileBoxes(str(path))(PICTURE, 1)[0]) == 0
    assert "1 boxes of image 1 have no extent inside it and are left out" in caplog.text
