import json

import numpy as np
import pytest

from kdpose.data.detections import load_detections, usual_detections
from kdpose.skeletons.known import COCO, CROWDPOSE

IMAGES = [
    {"id": 7, "file_name": "seven.jpg", "width": 100, "height": 80},
    {"id": 3, "file_name": "three.jpg", "width": 50, "height": 60},
]


def load(folder, boxes, skeleton=COCO, images=IMAGES):
    (folder / "boxes.json").write_text(json.dumps(boxes))
    (folder / "truth.json").write_text(json.dumps({"images": images}))
    return load_detections(folder / "boxes.json", folder / "truth.json", skeleton)


def box(image_id=7, bbox=(10, 20, 30, 40), **more):
    return {"image_id": image_id, "category_id": 1, "bbox": list(bbox), "score": 0.5, **more}


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
def test_boxes_are_taken_as_the_detector_gave_them(tmp_path, skeleton):
    boxes = [
        box(3, (-1, 2, 30.5, 4), score=0.25),
        box(category_id=2),
        box(8),
        box(bbox=(1, 2, 0, 4)),
        {"image_id": 7, "bbox": [1, 2, 3, 4]},
    ]
    persons = load(tmp_path, boxes, skeleton)
    assert persons.files.tolist() == ["three.jpg", "seven.jpg"]
    assert persons.box.tolist() == [[-1, 2, 30.5, 4], [1, 2, 3, 4]]
    assert persons.box_score.tolist() == [0.25, 1]
    assert persons.image_size.tolist() == [[50, 60], [100, 80]]
    assert persons.joints.shape == (2, len(skeleton), 2)
    assert not persons.visible.any()


@pytest.mark.parametrize(
    ("boxes", "match"),
    [
        ([box(8)] * 4, r"^0 of 4 boxes of \S+boxes.json \(from boxes\) lie in the 2 images of \S+"),
        ([box(bbox=(1, 2, 0, 0))], "^0 of 1 boxes"),
        (
            [box(category_id=3)] * 5,
            r"^0 of 5 boxes .* must be 1, it has \[3\]; category=ID takes another$",
        ),
        ([], "must be a list of .*, got an empty list$"),
        ({"images": [], "annotations": []}, r"got a dict of \['annotations', 'images'\]$"),
        ([box(), {"image_id": 7, "keypoints": [1]}], r"\['image_id', 'keypoints'\] as number 1$"),
        ([box(bbox=(1, 2, 3))], r"must be a list of .*bbox: \[x, y, width, height\]"),
        ([[7, 1, 2, 3, 4]], "got a list as number 0"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path, boxes, match):
    with pytest.raises(ValueError, match=match) as error:
        load(tmp_path, boxes)
    assert "\n" not in str(error.value)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other.json \(from boxes\)"):
        load_detections(tmp_path / "other.json", tmp_path / "truth.json", COCO)
    with pytest.raises(ValueError, match=r"truth.json \(from annotations\) lists no 'images'"):
        load(tmp_path, [box()], images=[])


def corners(x, y, w, h):
    return [x, y, x + w, y + h]


def test_corners_are_told_from_sizes(tmp_path):
    """Random boxes inside their image: never refused as sizes, always refused as corners."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        size = rng.uniform(10, 60, (30, 2))
        place = rng.uniform(0, 1, (30, 2)) * ((100, 80) - size)
        right = np.hstack([place, size]).tolist()
        assert len(load(tmp_path, [box(bbox=b) for b in right])) == 30
        with pytest.raises(
            ValueError, match=r"boxes of .* write them as \[x1, y1, x2 - x1, y2 - y1"
        ):
            load(tmp_path, [box(bbox=corners(*b)) for b in right])
    whole = [box(bbox=(0, 0, 100, 80))]
    assert len(load(tmp_path, whole)) == 1


def test_crowdposes_own_detections(real_data, tmp_path):
    folder = real_data / "crowdpose" / "annotations"
    path, truth = folder / "test_crowdpose_det_AP_40.json", folder / "test_crowdpose.json"
    persons = load_detections(path, truth, CROWDPOSE)
    images = json.loads(truth.read_text())["images"]
    known = {image["id"] for image in images}
    boxes = [b for b in json.loads(path.read_text()) if b["image_id"] in known]
    assert len(persons) == len([b for b in boxes if b["category_id"] == 1]) > 0
    assert set(persons.image_id.tolist()) <= known
    assert (persons.box_score > 0).all()
    wrong = [{**b, "bbox": corners(*b["bbox"])} for b in boxes]
    with pytest.raises(ValueError, match="leave their image"):
        load(tmp_path, wrong, CROWDPOSE, images)


def test_real_persons_as_corners(real_data, tmp_path):
    """On all of CrowdPose's validation boxes and COCO's the check tells the two apart."""
    for file in (
        "crowdpose/annotations/crowdpose_val.json",
        "coco_mini/annotations/person_keypoints_train2017.json",
    ):
        data = json.loads((real_data / file).read_text())
        boxes = [box(a["image_id"], a["bbox"]) for a in data["annotations"]]
        boxes = [b for b in boxes if min(b["bbox"][2:]) > 0]
        assert len(load(tmp_path, boxes, images=data["images"])) == len(boxes)
        with pytest.raises(ValueError, match="leave their image"):
            load(
                tmp_path, [{**b, "bbox": corners(*b["bbox"])} for b in boxes], COCO, data["images"]
            )


@pytest.mark.parametrize(
    ("annotations", "detections"),
    [
        (
            "annotations/person_keypoints_val2017.json",
            "person_detection_results/COCO_val2017_detections_AP_H_56_person.json",
        ),
        (
            "annotations/image_info_test-dev2017.json",
            "person_detection_results/COCO_test-dev2017_detections_AP_H_609_person.json",
        ),
        ("annotations/crowdpose_test.json", "annotations/det_for_crowd_test_0.1_0.5.json"),
        ("annotations/mmpose_crowdpose_test.json", "annotations/det_for_crowd_test_0.1_0.5.json"),
        ("json/crowdpose_test.json", "det_for_crowd_test_0.1_0.5.json"),
    ],
)
def test_usual_file_in_its_usual_place(tmp_path, annotations, detections):
    found, places = usual_detections(tmp_path / annotations)
    assert found is None
    assert tmp_path / detections in places
    (tmp_path / detections).parent.mkdir(exist_ok=True)
    (tmp_path / detections).touch()
    assert usual_detections(tmp_path / annotations)[0] == tmp_path / detections


def test_other_splits_have_no_usual_file(tmp_path):
    assert usual_detections(tmp_path / "annotations" / "lspet_val.json") == (None, [])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"bbox": None}, "bbox"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox"),
        ({"bbox": [1, "2", 3, 4]}, "bbox"),
        ({"score": None}, "score"),
        ({"score": float("inf")}, "score"),
        ({"score": "0.9"}, "score"),
    ],
)
def test_what_is_not_finite_is_left_out_and_counted(tmp_path, caplog, change, key):
    persons = load(tmp_path, [box(score=0.25), {**box(), **change}])
    assert persons.box_score.tolist() == [0.25]
    assert f"1 of 2 detections are left out, whose {key} is not finite" in caplog.text


def test_ids_of_detections(tmp_path):
    assert load(tmp_path, [box(image_id=7.0), box(image_id="7")]).image_id.tolist() == [7, 7]
    with pytest.raises(ValueError, match=r"\(from boxes\): detection number 0 has image_id"):
        load(tmp_path, [box(image_id="frame_7")])
