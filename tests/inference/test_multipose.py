"""The bundled detector on real photographs and on the edges of its own rules."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_convert, box_iou

from kdpose.inference.multipose import FILE, MultiPoseDetector, _cut, _tiles


def test_file_is_small():
    assert FILE.stat().st_size < 10_000_000


def test_four_tiles_overlap_and_reach_the_corners():
    assert _tiles(100, 50) == [(0, 0, 60, 30), (0, 20, 60, 50), (40, 0, 100, 30), (40, 20, 100, 50)]


def test_a_box_is_cut_only_where_the_picture_goes_on():
    corners = np.array([[0, 0, 30, 29], [5, 5, 60, 20], [5, 5, 30, 30], [9, 9, 20, 20]], np.float32)
    first = (0, 0, 60, 30)  # the picture goes on to the right and below
    assert _cut(corners, first, (100, 50)).tolist() == [False, True, True, False]
    assert not _cut(corners, first, (60, 30)).any()


@pytest.mark.parametrize("size", [(1, 1), (40, 900), (2000, 10)])
def test_any_size_gives_boxes_inside(size):
    boxes, scores = MultiPoseDetector(0.0)(Image.new("RGB", size, "grey"))
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= np.array(size) + 1e-3).all()


@pytest.mark.slow
def test_persons_of_photographs_are_found(real_data):
    """At least 60 % of the persons with more than three labelled joints, 1.5 boxes a person."""
    wanted, found, boxes = 0, 0, 0
    detector = MultiPoseDetector()
    root = real_data / "coco_mini"
    for split in ("train2017", "val2017"):
        content = json.loads((root / f"annotations/person_keypoints_{split}.json").read_text())
        truth: dict[int, list[list[float]]] = {image["id"]: [] for image in content["images"]}
        for row in content["annotations"]:
            if not row["iscrowd"] and row["num_keypoints"] > 3:
                truth[row["image_id"]].append(row["bbox"])
        for image in content["images"]:
            with Image.open(root / split / image["file_name"]) as picture:
                seen, scores = detector(picture.convert("RGB"))
            assert (np.diff(scores) <= 0).all()
            boxes += len(seen)
            persons = torch.tensor(truth[image["id"]], dtype=torch.float32).reshape(-1, 4)
            wanted += len(persons)
            if len(persons) and len(seen):
                corners = (
                    box_convert(b, "xywh", "xyxy") for b in (persons, torch.from_numpy(seen))
                )
                overlap = box_iou(*corners)
                found += int((overlap.amax(dim=1) >= 0.5).sum())
    assert found >= 0.6 * wanted
    assert boxes <= 1.5 * wanted
