"""Label Studio, VIA and FiftyOne: files as the tools document them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from kdpose.formats import fiftyone, labelstudio, via
from kdpose.formats.readers import read
from kdpose.skeletons.files import category_skeleton
from kdpose.skeletons.known import COCO

NAMES = ["cheek", "left_ear", "right_ear"]  # in alphabetical order


@pytest.fixture(autouse=True)
def images(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (200, 100), "gray").save(tmp_path / name)


def triples(data):
    return [np.array(p["keypoints"]).reshape(-1, 3).tolist() for p in data["annotations"]]


def region(kind, number, label, x, y, parent=None, **more):
    value = {"x": x, "y": y, "width": more.pop("width", 0.5), kind: [label], **more}
    found = {"id": number, "type": kind, "from_name": "tag", "to_name": "img", "value": value}
    found |= {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return found | ({"parentID": parent} if parent else {})


def points(parent, shift=0, tag=""):
    at = [(5, 10), (10, 20), (15, 20)]
    return [
        region("keypointlabels", f"{tag}{name}", name, x + shift, y, parent)
        for name, (x, y) in zip(NAMES, at, strict=True)
    ]


def tasks(tmp_path, *results, image="/data/upload/1/0a1b2c3d-a.jpg", key="annotations"):
    listed = [{"id": 1, "data": {"image": image}, key: [{"result": r} for r in results]}]
    (tmp_path / "export.json").write_text(json.dumps(listed))
    return tmp_path / "export.json"


FIRST = [[10, 10, 2], [20, 20, 2], [30, 20, 2]]
SECOND = [[110, 10, 2], [120, 20, 2], [130, 20, 2]]


def test_labelstudio_parents(tmp_path, caplog):
    boxes = [
        region("rectanglelabels", f"box{n}", "cat", 50 * n, 0, width=40, height=50) for n in (0, 1)
    ]
    hidden = {"id": "sright_ear", "type": "choices", "value": {"choices": ["Occluded"]}}
    other = {"id": "p", "type": "polygonlabels", "value": {}}
    result = [*boxes, *points("box0"), *points("box1", 50, "s"), hidden, other]
    data = labelstudio.read(tasks(tmp_path, result, []), None, None)
    assert triples(data) == [FIRST, [*SECOND[:2], [130, 20, 1]]]
    assert [p["bbox"] for p in data["annotations"]] == [[0, 0, 80, 50], [100, 0, 80, 50]]
    assert data["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}
    assert category_skeleton(data["categories"][0]).flip_order == (0, 2, 1)
    assert "1 regions are neither points nor rectangles" in caplog.text
    assert "1 annotations are further ones of a task" in caplog.text


@pytest.mark.parametrize("way", ["inside", "relations", "alone"])
def test_labelstudio_other_groups(tmp_path, way):
    boxes = [
        region("rectanglelabels", f"box{n}", "cat", 50 * n, 0, width=40, height=50) for n in (0, 1)
    ]
    found = [*points(None), *points(None, 50, "s")]
    relations = [
        {"type": "relation", "from_id": p["id"], "to_id": "box1" if p["id"][0] == "s" else "box0"}
        for p in found
    ]
    if way == "alone":
        data = labelstudio.read(tasks(tmp_path, points(None)), None, None)
        assert triples(data) == [FIRST]
        with pytest.raises(ValueError, match="a person has two 'cheek'"):
            labelstudio.read(tasks(tmp_path, found), None, None)
        return
    more = relations if way == "relations" else []
    data = labelstudio.read(tasks(tmp_path, [*boxes, *found, *more]), None, None)
    assert triples(data) == [FIRST, SECOND]


def test_labelstudio_predictions_and_paths(tmp_path, caplog):
    local = "/data/local-files/?d=photos/a.jpg"
    path = tasks(tmp_path, points(None), image=local, key="predictions")
    assert labelstudio.read(path, None, None)["images"][0]["file_name"] == "a.jpg"
    assert "1 tasks have no annotation: their predictions are read" in caplog.text
    path.write_text(json.dumps([{"image": "a.jpg", "kp": []}]))
    with pytest.raises(ValueError, match="export as JSON, not JSON-MIN"):
        labelstudio.read(path, None, None)
    turned = [r | {"image_rotation": 90} for r in points(None)]
    path = tasks(tmp_path, turned)
    with pytest.raises(ValueError, match="no person with a labelled joint"):
        labelstudio.read(path, None, None)
    assert "3 points and boxes are of images turned" in caplog.text


def test_labelstudio_known_joints(tmp_path):
    """COCO's joints, in any spelling, come in COCO's order, with its limbs."""
    names = [joint.replace("left_", "L-") for joint in reversed(COCO.joints)]
    found = [region("keypointlabels", n, n, k + 1, 50) for k, n in enumerate(names)]
    data = labelstudio.read(tasks(tmp_path, found), None, None)
    assert data["categories"][0]["keypoints"] == names[::-1]
    assert data["annotations"][0]["keypoints"][:3] == [34, 50, 2]
    assert category_skeleton(data["categories"][0]).limbs == COCO.limbs


def regions():
    shapes = [
        ({"name": "point", "cx": x, "cy": y}, {"joint": name, "person": str(n)})
        for n, person in enumerate((FIRST, SECOND))
        for name, (x, y, _) in zip(NAMES, person, strict=True)
    ]
    shapes[-1][1]["occluded"] = "yes"
    box = {"name": "rect", "x": 100, "y": 0, "width": 80, "height": 50}
    return [*shapes, (box, {"person": "1"}), ({"name": "circle"}, {}), ({**shapes[0][0]}, {})]


def check_via(data, caplog):
    assert triples(data) == [FIRST, [*SECOND[:2], [130, 20, 1]]]
    assert data["annotations"][1]["bbox"] == [100, 0, 80, 50]
    assert [i["file_name"] for i in data["images"]] == ["a.jpg", "b.jpg"]
    assert data["categories"][0]["keypoints"] == NAMES
    assert "1 regions are neither points nor rectangles" in caplog.text
    assert "1 points have no joint's name" in caplog.text


@pytest.mark.parametrize("version", [1, 2])
def test_via_json(tmp_path, caplog, version):
    listed = [{"shape_attributes": s, "region_attributes": a} for s, a in regions()]
    found = listed if version == 2 else {str(k): one for k, one in enumerate(listed)}
    content = {
        "a.jpg1": {"filename": "a.jpg", "size": 1, "regions": found, "file_attributes": {}},
        "b.jpg1": {"filename": "b.jpg", "size": 1, "regions": [], "file_attributes": {}},
    }
    project = {"_via_settings": {}, "_via_img_metadata": content}
    (tmp_path / "via.json").write_text(json.dumps(project if version == 2 else content))
    check_via(via.read(tmp_path / "via.json", None, None), caplog)
    (tmp_path / "via.json").write_text("[1]")
    with pytest.raises(ValueError, match="no project of VIA 1 or 2"):
        via.read(tmp_path / "via.json", None, None)


def test_via_csv(tmp_path, caplog):
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id",
               "region_shape_attributes", "region_attributes"]  # fmt: skip
    with (tmp_path / "via.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for k, (shape, attributes) in enumerate(regions()):
            writer.writerow(["a.jpg", 1, "{}", 9, k, json.dumps(shape), json.dumps(attributes)])
        writer.writerow(["b.jpg", 1, "{}", 0, 0, "{}", "{}"])
    check_via(via.read(tmp_path / "via.csv", None, None), caplog)


def test_via_attributes(tmp_path):
    """The only attribute is the joint; two points of a name need persons."""
    listed = [
        {"shape_attributes": {"name": "point", "cx": 5, "cy": 6}, "region_attributes": {"id": n}}
        for n in ("nose", "nose")
    ]
    content = {"a": {"filename": "a.jpg", "regions": listed}}
    (tmp_path / "via.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="a person has two 'nose'"):
        via.read(tmp_path / "via.json", None, None)


def test_fiftyone(tmp_path, caplog):
    nan = float("nan")
    (tmp_path / "data").mkdir()
    (tmp_path / "a.jpg").rename(tmp_path / "data" / "a.jpg")
    keypoints = [
        {"_cls": "Keypoint", "label": "cat", "index": 3, "confidence": None,
         "points": [[0.05, 0.1], [0.1, 0.2], [nan, nan]]},
        {"_cls": "Keypoint", "label": "cat", "confidence": [0.9, 0.1, 0.8],
         "points": [[0.55, 0.1], [0.6, 0.2], [0.65, 0.2]]},
        {"_cls": "Keypoint", "label": "cat", "points": [[0.5, 0.5]]},
    ]  # fmt: skip
    box = {"_cls": "Detection", "label": "cat", "index": 3, "bounding_box": [0, 0, 0.4, 0.5]}
    sample = {
        "filepath": "data/a.jpg",
        "metadata": {"_cls": "ImageMetadata", "width": 200, "height": 100},
        "ground_truth": {"_cls": "Keypoints", "keypoints": keypoints},
        "guess": {"_cls": "Keypoints", "keypoints": keypoints[:1]},
        "boxes": {"_cls": "Detections", "detections": [box]},
    }
    edges = [[1, 0, 2]]
    skeletons = {"skeletons": {"ground_truth": {"labels": NAMES, "edges": edges}}}
    (tmp_path / "metadata.json").write_text(json.dumps(skeletons))
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [sample]}))
    data = fiftyone.read(tmp_path, None, None)
    assert triples(data) == [[*FIRST[:2], [0, 0, 0]], [SECOND[0], [0, 0, 0], SECOND[2]]]
    assert data["annotations"][0]["bbox"] == [0, 0, 80, 50]
    assert data["images"][0]["file_name"] == "data/a.jpg"
    assert category_skeleton(data["categories"][0]).limbs == ((1, 0), (0, 2))
    for text in (
        "1 keypoints are of further fields than 'ground_truth'",
        "1 persons have another number of points than the skeleton's 3",
        "1 points have a confidence below 0.5",
    ):
        assert text in caplog.text
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(ValueError, match=r"set skeleton=FILE\.yaml"):
        fiftyone.read(tmp_path, None, None)


def test_fiftyone_coco(tmp_path):
    content = {
        "categories": [{"id": 0, "name": "cat", "keypoints": NAMES, "skeleton": [[1, 2]]}],
        "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 0, "bbox": [0, 0, 80, 50],
             "keypoints": [v for point in FIRST for v in point]}
        ],
    }  # fmt: skip
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert triples(fiftyone.read(tmp_path, None, None)) == [FIRST]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("labelstudio", [{"data": {"image": "a.jpg"}, "annotations": [{"result": [
            {"type": "keypointlabels", "value": {}}]}]}]),
        ("labelstudio", [{"data": {"image": "a.jpg"}, "annotations": [3]}]),
        ("via", {"a": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "point"},
                                                         "region_attributes": {"a": "nose"}}]}}),
        ("via", {"a": {"filename": "a.jpg", "regions": [7]}}),
        ("fiftyone", {"samples": [{"k": {"_cls": "Keypoints", "keypoints": [4]}}]}),
    ],
)  # fmt: skip
def test_damaged_entries_are_one_line(tmp_path, form, content):
    (tmp_path / "x.json").write_text(json.dumps(content))
    skeletons = {"default_skeleton": {"labels": NAMES, "edges": []}}
    (tmp_path / "metadata.json").write_text(json.dumps(skeletons))
    with pytest.raises(ValueError, match=f"is not as from={form} expects"):
        read(form, str(tmp_path / "x.json"), None, None)
