"""Predictions as pre-labels, read again: the same joints within rounding."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import kdpose.convert
from kdpose.formats import cvat, labelstudio, writers, yolo
from kdpose.skeletons.files import category_skeleton

NAMES = ["nose", "left_ear", "right_ear"]
CAT = category_skeleton({"name": "cat", "keypoints": NAMES})
POSES = [
    [[10.123, 10.4, 0.9], [20, 20, 0.2], [30, 20.5, 0.8]],
    [[110, 10, 0.9], [120, 20, 0.7], [0, 0, 0]],
]


@pytest.fixture
def files(tmp_path):
    """Two images, the second without persons, and four results."""
    listed = []
    for n, name in enumerate(("a.jpg", "b/c.jpg"), start=1):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100), "gray").save(tmp_path / "images" / name)
        listed.append({"id": n, "file_name": name, "width": 200, "height": 100})
    category = {"id": 1, "name": "cat", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
    content = {"images": listed, "categories": [category], "annotations": []}
    (tmp_path / "A.json").write_text(json.dumps(content))
    results = [
        {"image_id": image, "category_id": 1, "score": score,
         "keypoints": [v for joint in pose for v in joint]}
        for image, score, pose in [(1, 0.9, POSES[0]), (1, 0.8, POSES[1]), (1, 0.1, POSES[0]),
                                   (7, 0.9, POSES[0])]
    ]  # fmt: skip
    results[0]["bbox"] = [5, 6, 40, 30]
    (tmp_path / "P.json").write_text(json.dumps(results))
    return tmp_path


def convert(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["kdpose.convert", *map(str, words)])
    kdpose.convert.main()


@pytest.mark.parametrize(
    ("form", "out", "seen", "word"),
    [
        ("yolo", "out", [[2, 1, 2], [2, 2, 0]], "put the images into"),
        ("labelstudio", "tasks.json", [[2, 2, 2], [2, 2, 0]], "labelling interface"),
        ("cvat", "a.xml", [[2, 1, 2], [2, 2, 0]], "a skeleton 'person'"),
    ],
)
def test_round_trip(files, caplog, form, out, seen, word):
    paths = f"{files}/P.json", f"{files}/A.json"
    said = writers.write(form, *paths, None, 0.3, files / out)
    assert "2 persons in 2 images" in said
    assert word in said
    assert "1 persons have a score below min_score=0.3" in caplog.text
    assert "1 persons are of images that" in caplog.text
    read = {
        "yolo": lambda: yolo.read(files / "out" / "labels", files / "images", None),
        "labelstudio": lambda: labelstudio.read(files / out, files / "images", CAT),
        "cvat": lambda: cvat.read(files / out, None, None),
    }[form]
    data = read()
    assert data["categories"][0]["keypoints"] == NAMES
    found = np.array([p["keypoints"] for p in data["annotations"]]).reshape(2, 3, 3)
    assert found[..., 2].tolist() == seen
    np.testing.assert_allclose(found[..., :2], np.array(POSES)[..., :2], atol=0.006)
    assert [i["file_name"] for i in data["images"]] == ["a.jpg", "b/c.jpg"]
    if form != "cvat":  # which has no box
        assert data["annotations"][0]["bbox"] == pytest.approx([5, 6, 40, 30], abs=0.01)
    if form == "labelstudio":
        assert 'value="left_ear" model_index="1"' in (files / "tasks.xml").read_text()
    if form == "yolo":
        assert (files / "out" / "labels" / "b" / "c.txt").read_text() == ""


def test_command(files, monkeypatch, capsys):
    words = ["to=cvat", f"source={files}/P.json", f"annotations={files}/A.json"]
    convert(monkeypatch, *words, "min_score=0", f"out={files}/new/a.xml")
    assert "3 persons in 2 images" in capsys.readouterr().out
    assert len(cvat.read(files / "new" / "a.xml", None, None)["annotations"]) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["to=yolo"], "needs annotations=FILE.json"),
        (["to=voc"], "to must be one of yolo, labelstudio, cvat"),
        (["to=yolo", "from=coco"], "set from=FORMAT to read annotations, or to=FORMAT"),
        ([], "set from=FORMAT to read annotations, or to=FORMAT"),
        (["to=cvat", "annotations={files}/A.json", "skeleton=coco"], "has persons of 3 joints"),
        (["to=cvat", "annotations={files}/A.json", "min_score=1"], "no person is left of 4"),
    ],
)
def test_refused(files, monkeypatch, capsys, words, message):
    words = [word.replace("{files}", str(files)) for word in words]
    with pytest.raises(SystemExit):
        convert(monkeypatch, *words, f"source={files}/P.json", f"out={files}/out")
    assert message in capsys.readouterr().err
