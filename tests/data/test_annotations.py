import json
from dataclasses import replace

import numpy as np
import pytest

from kdpose.data.annotations import concatenate, load_persons
from kdpose.skeletons.known import COCO, CROWDPOSE

BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])


def person(skeleton, image_id=7, bbox=(10, 20, 30, 40), first=(12.5, 25.0, 2), **more):
    rest = [0, 0, 0] * (len(skeleton) - 1)
    return {"image_id": image_id, "bbox": list(bbox), "keypoints": [*first, *rest], **more}


def write(folder, persons, name="persons.json"):
    images = [
        {"id": 7, "file_name": "seven.jpg", "width": 100, "height": 80},
        {"id": 3, "file_name": "three.jpg", "width": 50, "height": 60},
    ]
    path = folder / name
    path.write_text(json.dumps({"images": images, "annotations": persons}))
    return path


def slow_box(x, y, w, h, width, height):
    """HRNet's cleaning: corners clipped to the image's last pixel, the far one inclusive."""
    x1 = x if x > 0 else 0
    y1 = y if y > 0 else 0
    x2 = x1 + (w - 1 if w > 1 else 0)
    y2 = y1 + (h - 1 if h > 1 else 0)
    x2 = width - 1 if x2 > width - 1 else x2
    y2 = height - 1 if y2 > height - 1 else y2
    return x1, y1, x2 - x1, y2 - y1


@BOTH
def test_rows(tmp_path, skeleton):
    path = write(tmp_path, [person(skeleton), person(skeleton, 3, first=(1, 2, 1))])
    persons = load_persons(path, skeleton)
    assert len(persons) == 2
    assert persons.files.tolist() == ["seven.jpg", "three.jpg"]
    assert persons.image_id.tolist() == [7, 3]
    assert persons.image_size.tolist() == [[100, 80], [50, 60]]
    assert persons.box.tolist() == [[10, 20, 29, 39], [10, 20, 29, 39]]
    assert persons.box_score.tolist() == [1, 1]
    assert persons.joints.shape == (2, len(skeleton), 2)
    assert persons.joints[:, 0].tolist() == [[12.5, 25], [1, 2]]
    assert persons.visible[:, :2].tolist() == [[2, 0], [1, 0]]
    assert persons.image_id.dtype == np.int64
    for values in (persons.image_size, persons.box, persons.joints, persons.visible):
        assert values.dtype == np.float32


@pytest.mark.parametrize(
    "left_out",
    [
        {"iscrowd": 1},
        {"first": (12.5, 25.0, 0)},
        {"area": 0},
        {"image_id": 99},
        {"bbox": (10, 20, 0, 40)},
        {"bbox": (10, 20, 30, 1)},  # one row of pixels: no extent between pixel centres
        {"bbox": (100, 20, 30, 40)},
        {"bbox": (10, 80, 30, 40)},
        {"keypoints": []},
        {"keypoints": None},
    ],
)
def test_who_is_left_out(tmp_path, left_out):
    path = write(tmp_path, [person(COCO), {**person(COCO), **left_out, **_first(left_out)}])
    assert load_persons(path, COCO).joints[:, 0].tolist() == [[12.5, 25]]


def _first(changes):
    """The keypoints of a person whose first joint changes."""
    return person(COCO, **changes) if "first" in changes else {}


def test_boxes_are_cleaned_as_hrnet_does(tmp_path):
    rng = np.random.default_rng(0)
    boxes = [
        (*rng.uniform(-20, 70, 2).round(2), *rng.uniform(25, 80, 2).round(2)) for _ in range(50)
    ]
    boxes += [(0, 0, 100, 80), (-5, -5, 200, 200)]
    persons = load_persons(write(tmp_path, [person(COCO, bbox=box) for box in boxes]), COCO)
    np.testing.assert_allclose(persons.box, [slow_box(*box, 100, 80) for box in boxes], atol=1e-5)
    assert persons.box[-1].tolist() == [0, 0, 99, 79]


def test_swapped_width_and_height_are_repaired_with_a_warning(tmp_path, caplog):
    """Image 7 is 100x80 in the file and holds a box that fits an 80x100 one only."""
    low, near = person(COCO, bbox=(10, 20, 30, 75)), person(COCO, bbox=(0, 0, 20, 20))
    persons = load_persons(write(tmp_path, [low, near, person(COCO, 3)]), COCO)
    assert persons.image_size.tolist() == [[80, 100], [80, 100], [50, 60]]
    assert persons.box[0].tolist() == [10, 20, 29, 74]
    assert [r.getMessage().split(": ")[1] for r in caplog.records] == [
        "1 images have width and height swapped; repaired"
    ]
    caplog.clear()
    wide = person(COCO, bbox=(60, 0, 40, 20))  # which would not fit the swapped image
    assert load_persons(write(tmp_path, [low, wide]), COCO).image_size.tolist() == [[100, 80]] * 2
    assert not caplog.records


def test_real_files_are_not_swapped(real_data, caplog):
    load_persons(real_data / "crowdpose" / "annotations" / "crowdpose_val.json", CROWDPOSE)
    for split in ("train", "val"):
        name = f"person_keypoints_{split}2017.json"
        load_persons(real_data / "coco_mini" / "annotations" / name, COCO)
    assert not [one for one in caplog.records if "left out" not in one.message]


def test_missing_file_names_the_key(tmp_path):
    path = tmp_path / "none.json"
    match = rf"no annotations at {path} \(from dataset.val.annotations\); set dataset.root"
    with pytest.raises(FileNotFoundError, match=match):
        load_persons(path, COCO, "dataset.val.annotations")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", r"a.json \(from dataset.annotations\) is not JSON: Input data was truncated"),
        ("[]", "is a list: of detections or results, not an annotation file"),
        ('{"images": []}', "is not a COCO-keypoints file"),
        (
            '{"images": [{"id": 1}], "annotations": []}',
            r"image 1 has no file_name",
        ),
        ('{"images": [], "annotations": [{"bbox": []}]}', "annotation number 0 has no image_id"),
        ('{"images": [], "annotations": []}', "none of 0 persons has a labelled joint"),
    ],
)
def test_files_of_another_kind(tmp_path, text, match):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        load_persons(path, COCO)


def test_nobody_labelled(tmp_path):
    path = write(tmp_path, [person(COCO, first=(0, 0, 0))] * 3)
    with pytest.raises(ValueError, match="none of 3 persons has a labelled joint"):
        load_persons(path, COCO)


def test_another_skeleton(tmp_path):
    path = write(tmp_path, [person(CROWDPOSE)])
    match = "has 14 joints per person and skeleton 'coco' has 17; take dataset=custom"
    with pytest.raises(ValueError, match=match):
        load_persons(path, COCO)


@BOTH
def test_concatenation_keeps_order_and_types(tmp_path, skeleton):
    first = load_persons(write(tmp_path, [person(skeleton), person(skeleton, 3)]), skeleton)
    second = load_persons(write(tmp_path, [person(skeleton, 3, first=(1, 2, 1))]), skeleton)
    both = concatenate(first, second)
    assert both.image_id.tolist() == [7, 3, 3]
    assert both.files.tolist() == ["seven.jpg", "three.jpg", "three.jpg"]
    assert both.joints[:, 0].tolist() == [[12.5, 25], [12.5, 25], [1, 2]]
    for name in (name for name, value in vars(first).items() if value is not None):
        value = getattr(both, name)
        assert value.dtype == getattr(first, name).dtype
        np.testing.assert_array_equal(value[2:], getattr(second, name))


def test_persons_and_detections_together_have_what_both_have(tmp_path):
    labelled = load_persons(write(tmp_path, [person(COCO)]), COCO)
    found = replace(labelled, annotation_id=None)
    for both in (concatenate(labelled, found), concatenate(found, labelled)):
        assert both.annotation_id is None
        assert both.image_id.tolist() == [7, 7]


@pytest.mark.parametrize(("split", "count"), [("train", 86), ("val", 68)])
def test_coco_mini(real_data, split, count):
    path = real_data / "coco_mini" / "annotations" / f"person_keypoints_{split}2017.json"
    persons = load_persons(path, COCO)
    assert len(persons) == count
    assert (persons.box[:, 2:] > 0).all()
    assert (persons.box[:, :2] + persons.box[:, 2:] <= persons.image_size - 1).all()
    assert set(np.unique(persons.visible)) == {0, 1, 2}
    assert (persons.joints[persons.visible == 0] == 0).all()


def test_crowdposes_own_file(real_data):
    path = real_data / "crowdpose" / "annotations" / "crowdpose_val.json"
    data = json.loads(path.read_text())
    labelled = [a for a in data["annotations"] if not a["iscrowd"] and any(a["keypoints"][2::3])]
    assert len(load_persons(path, CROWDPOSE)) == len(labelled) > 7900
