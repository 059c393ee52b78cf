import math

import pytest
from PIL import Image

from kdpose.runtime import coco_schema
from kdpose.runtime.coco_schema import Misfit, Notes, image_entry, person_entry, result_entry

IMAGE = {"id": 7, "file_name": "a.png", "width": 160, "height": 200}
PERSON = {
    "id": 1,
    "image_id": 7,
    "category_id": 1,
    "iscrowd": 0,
    "area": 8000,
    "num_keypoints": 2,
    "bbox": [30, 20, 100, 150],
    "keypoints": [80, 30, 2, 40, 90, 1, 0, 0, 0],
}
RESULT = {"image_id": 7, "category_id": 1, "keypoints": [1, 2, 0.5], "score": 0.5}


def person(notes=None, **changes):
    return person_entry({**PERSON, **changes}, {7: (160, 200)}, Notes() if notes is None else notes)


def test_entries_in_order_stay_as_they_are():
    notes = Notes()
    extra = {"segmentation": [], "track": "a"}
    assert image_entry({**IMAGE, "license": 3}, None, notes) == {**IMAGE, "license": 3}
    assert person(notes, **extra) == {**PERSON, **extra}
    assert result_entry(RESULT, notes) == RESULT
    assert not +notes


@pytest.mark.parametrize("nothing", ["absent", None, "", []])
@pytest.mark.parametrize(
    "key", ["id", "category_id", "area", "iscrowd", "num_keypoints", "keypoints"]
)
def test_absent_null_and_empty_are_the_same(key, nothing):
    given = {k: v for k, v in PERSON.items() if k != key}
    given |= {} if nothing == "absent" else {key: nothing}
    wanted = {k: v for k, v in PERSON.items() if k != key}
    assert person_entry(given, {7: (160, 200)}, Notes()) == wanted


@pytest.mark.parametrize("value", [7.0, "7", " 7"])
def test_whole_numbers(value):
    notes = Notes()
    assert image_entry({**IMAGE, "id": value}, None, notes)["id"] == 7
    assert person(notes, image_id=value)["image_id"] == 7
    assert result_entry({**RESULT, "image_id": value}, notes)["image_id"] == 7
    assert notes == {coco_schema.IDS: 3, coco_schema.STRAYS: 0}


@pytest.mark.parametrize("value", ["frame_7", 7.5, True, math.nan, [7], 2**70])
def test_what_is_no_id(value):
    for read in (
        lambda: image_entry({**IMAGE, "id": value}, None, Notes()),
        lambda: person(image_id=value),
        lambda: result_entry({**RESULT, "image_id": value}, Notes()),
    ):
        with pytest.raises(Misfit, match="ids must be whole numbers, so renumber them"):
            read()


@pytest.mark.parametrize("nothing", [None, 0, "", "absent"])
def test_sizes_come_from_the_image(tmp_path, nothing):
    Image.new("RGB", (33, 44)).save(tmp_path / "a.png")
    given = {"id": 7, "file_name": "a.png"}
    given |= {} if nothing == "absent" else {"width": nothing, "height": nothing}
    notes = Notes()
    assert image_entry(given, tmp_path, notes) == {**IMAGE, "width": 33, "height": 44}
    assert notes[coco_schema.SIZES] == 1
    with pytest.raises(Misfit, match="has no width and height: `kdpose convert"):
        image_entry(given, None, notes)
    with pytest.raises(Misfit, match=r"has no width and height, and no image at .*b\.png"):
        image_entry({**given, "file_name": "b.png"}, tmp_path, notes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"file_name": None}, "has no file_name"),
        ({"file_name": 7}, "has file_name 7"),
        ({"width": -5}, "measures -5 x 200"),
        ({"width": "160"}, "measures '160' x 200"),
        ({"height": math.inf}, "measures 160 x inf"),
        ({"crowdIndex": "x"}, "has crowdIndex 'x'"),
    ],
)
def test_images_that_cannot_be_used(changes, match):
    with pytest.raises(Misfit, match=match):
        image_entry({**IMAGE, **changes}, None, Notes())


def test_an_image_that_is_not_read_needs_an_id_alone():
    assert image_entry({"id": 7}, None, Notes(), pictured=False) == {"id": 7}


def test_boxes_are_derived():
    """The labelled joints' extent, a tenth of its longer side and a pixel around, in the image."""
    notes = Notes()
    assert person(notes, bbox=None)["bbox"] == [33, 23, 54, 74]
    assert person(notes, bbox=[], keypoints=[5, 5, 2, 159, 100, 1, 0, 0, 0])["bbox"] == [
        0,
        0,
        160,
        116.4,
    ]
    assert notes[coco_schema.BOXES] == 2
    assert "bbox" not in person(bbox=None, keypoints=[0] * 9)
    assert "bbox" not in person(bbox=None, image_id=8)


@pytest.mark.parametrize(
    "box",
    [
        [1, 2, 3, 4, 0.9],
        [1, 2, 3],
        [1, None, 3, 4],
        [1, 2, math.nan, 4],
        "1 2 3 4",
        [1, 2, "3", 4],
        5,
    ],
)
def test_boxes_that_cannot_be_used(box):
    with pytest.raises(Misfit, match=r"must have bbox \[x, y, width, height\], has "):
        person(bbox=box)
    with pytest.raises(Misfit, match=r"must have bbox \[x, y, width, height\], has "):
        result_entry({**RESULT, "bbox": box}, Notes())


def test_nested_keypoints():
    notes = Notes()
    assert person(notes, keypoints=[[80, 30, 2], [40, 90, 1], [0, 0, 0]]) == PERSON
    assert notes[coco_schema.NESTED] == 1


def test_confidences_as_v():
    notes = Notes()
    found = person(notes, keypoints=[80, 30, 0.98, 40, 90, 1.0, 10, 20, 0.2], num_keypoints=3)
    assert found["keypoints"] == [80, 30, 2, 40, 90, 2, 10, 20, 0]
    assert found["num_keypoints"] == 2
    assert notes[coco_schema.CONFIDENCES] == 3


@pytest.mark.parametrize("nothing", [(None, None, 2), (math.nan, math.nan, 2), (None, None, None)])
def test_joints_without_coordinates_are_not_labelled(nothing):
    notes = Notes()
    found = person(notes, keypoints=[80, 30, 2, *nothing, 0, 0, 0])
    assert found["keypoints"] == [80, 30, 2, 0, 0, 0, 0, 0, 0]
    assert found["num_keypoints"] == 1
    assert notes[coco_schema.GAPS] == 1


@pytest.mark.parametrize(
    "keypoints",
    [
        [1, 2],
        [math.inf, 2, 2],
        ["1", 2, 2],
        [1, 2, -1],
        [1, 2, "2"],
        [1e30, 2, 2],
        {"nose": [1, 2, 2]},
    ],
)
def test_keypoints_that_cannot_be_used(keypoints):
    with pytest.raises(Misfit):
        person(keypoints=keypoints)


@pytest.mark.parametrize(
    "changes",
    [{"score": None}, {"score": math.nan}, {"score": "1"}, {"keypoints": None},
     {"keypoints": [1, 2]}, {"keypoints": [1, math.inf, 1]}, {"keypoints": [1, None, 1]}],
)  # fmt: skip
def test_results_that_cannot_be_used(changes):
    with pytest.raises(Misfit, match="finite"):
        result_entry({**RESULT, **changes}, Notes())
