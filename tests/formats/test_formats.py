"""Each format by files written by hand; values follow from the formats' own descriptions."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import kdpose.convert
from kdpose.checks.findings import exit_code
from kdpose.checks.inspect import inspect
from kdpose.data.annotations import load_persons
from kdpose.formats import coco, cvat, labelme, lsp, mpii, yolo
from kdpose.skeletons.files import category_skeleton, read_skeleton
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

CAT = Skeleton("cat", ("nose", "left_ear", "right_ear"), ((0, 1), (0, 2)), (0.03, 0.04, 0.04))


def picture(path, size=(100, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(path)


def triples(person):
    return np.array(person["keypoints"]).reshape(-1, 3)


def test_mpii(tmp_path):
    picture(tmp_path / "images" / "a.jpg", (640, 480))
    joints = [[10.0 + k, 101.0] for k in range(15)] + [[-1, -1]]
    entry = {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 15 + [0]}
    entry |= {"center": [201, 301], "scale": 1.0}
    (tmp_path / "valid.json").write_text(json.dumps([entry, entry]))
    data = mpii.read(tmp_path / "valid.json", tmp_path / "images", None)
    assert len(data["images"]) == 1  # two persons of one image
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (640, 480)
    person = data["annotations"][0]
    assert triples(person)[0].tolist() == [9, 100, 2]  # from 1-based to 0-based
    assert triples(person)[15].tolist() == [0, 0, 0]
    assert person["num_keypoints"] == 15
    # centre (200, 300), moved down by 15: 200 pixels across, cut off at the lower edge
    assert person["bbox"] == [100, 215, 200, 200]
    assert data["categories"][0]["keypoints"][6] == "pelvis"
    assert category_skeleton(data["categories"][0]).sigma_source == "default"
    with pytest.raises(ValueError, match="needs images=FOLDER"):
        mpii.read(tmp_path / "valid.json", None, None)
    (tmp_path / "valid.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must list \{center, image"):
        mpii.read(tmp_path / "valid.json", tmp_path / "images", None)


@pytest.mark.parametrize("original", [True, False], ids=["lsp", "lspet"])
def test_lsp(tmp_path, original):
    points = np.zeros((2, 14, 3))
    points[..., 0], points[..., 1] = np.arange(14) * 5 + 10, 40
    points[1, 0, 2] = 1  # the right ankle of the second person
    for n in (1, 2):
        picture(tmp_path / "images" / f"im000{n}.jpg")
    values = points.transpose(2, 1, 0) if original else points.transpose(1, 2, 0)
    savemat(tmp_path / "joints.mat", {"joints": values})
    data = lsp.read(tmp_path / "joints.mat", None, None)
    ankle = CROWDPOSE.joints.index("right_ankle")
    second = triples(data["annotations"][-1])
    if original:
        assert len(data["annotations"]) == 2
        assert second[:, 2].tolist() == [1 if k == ankle else 2 for k in range(14)]
        assert second[CROWDPOSE.joints.index("head")].tolist() == [75, 40, 2]
        assert second[CROWDPOSE.joints.index("neck")].tolist() == [70, 40, 2]
    else:
        assert len(data["annotations"]) == 1  # nobody labelled the first
        assert second[ankle].tolist() == [10, 40, 2]
        assert second[:, 2].sum() == 2
    assert data["categories"][0]["keypoints"] == list(CROWDPOSE.joints)
    picture(tmp_path / "images" / "im0003.jpg")
    with pytest.raises(ValueError, match="2 persons and 3 images"):
        lsp.read(tmp_path / "joints.mat", None, None)


def test_yolo(tmp_path):
    picture(tmp_path / "images" / "train" / "a.jpg")
    picture(tmp_path / "images" / "train" / "b.jpg")  # an image of nobody
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    line = "0 0.5 0.5 0.4 0.5 0.5 0.25 2 0.6 0.5 1 0 0 0\n"
    (labels / "a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text("kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n")
    data = yolo.read(labels, None, None)
    person = data["annotations"][0]
    assert person["bbox"] == [30, 20, 40, 40]
    assert triples(person).tolist() == [[50, 20, 2], [60, 40, 1], [0, 0, 0]]
    assert person["area"] == pytest.approx(0.53 * 1600)
    assert len(data["images"]) == 2
    read = category_skeleton(data["categories"][0])
    assert read.joints == ("joint_0", "joint_1", "joint_2")
    assert read.flip_order == (0, 2, 1)
    assert yolo.read(labels, None, CAT)["categories"][0]["keypoints"] == list(CAT.joints)
    (labels / "a.txt").write_text("0 0.5 0.5 0.4 0.5 0.5 0.25 0.6 0.5 0 0\n")  # without v
    flat = triples(yolo.read(labels, None, None)["annotations"][0])
    assert flat.tolist() == [[50, 20, 2], [60, 40, 2], [0, 0, 0]]
    (labels / "a.txt").write_text("0 0.5 0.5 0.4 0.5 1\n")
    with pytest.raises(ValueError, match="must have 5 \\+ 2 or 3 times 3 numbers, got 6"):
        yolo.read(labels, None, None)
    (tmp_path / "data.yaml").write_text("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]\n")
    with pytest.raises(ValueError, match=r"flip_idx must list .* and undo itself"):
        yolo.read(labels, None, None)


def test_yolos_seventeen_joints_and_classes(tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    picture(tmp_path / "images" / "a.png", (100, 80))
    seventeen = "names: [cow]\nkpt_shape: [17, 3]\nflip_idx: "
    (tmp_path / "data.yaml").write_text(seventeen + str(list(COCO.flip_order)))
    (labels / "a.txt").write_text("0 0.5 0.5 0.4 0.5" + " 0.5 0.5 2" * 17)
    assert yolo.read(labels, None, None)["categories"][0]["keypoints"] == list(COCO.joints)
    (labels / "a.txt").write_text("1 0.5 0.5 0.4 0.5" + " 0.5 0.5 2" * 17)
    with pytest.raises(ValueError, match=r"class 1 is none of data\.yaml's 1 names"):
        yolo.read(labels, None, None)
    seventeen = "names: {0: cow, 1: ox}\nkpt_shape: [17, 3]\nflip_idx: "
    cow = [1, 0, 2, 3, 4, 8, 9, 10, 5, 6, 7, 14, 15, 16, 11, 12, 13]
    for flip in (cow, []):  # 17 joints, and not those of COCO's person
        (tmp_path / "data.yaml").write_text(seventeen + str(flip))
        read = yolo.read(labels, None, None)
        assert [c["name"] for c in read["categories"]] == ["cow", "ox"]
        assert [p["category_id"] for p in read["annotations"]] == [2]
        category = read["categories"][1]
        assert category["keypoints"] == [f"joint_{k}" for k in range(17)]
        assert category["skeleton"] == []
        assert category_skeleton(category).flip_order == tuple(flip or range(17))


def shape(kind, label, points, group=1, **flags):
    return {
        "shape_type": kind, "label": label, "points": points, "group_id": group, "flags": flags
    }  # fmt: skip


def test_labelme(tmp_path):
    shapes = [
        shape("point", "nose", [[50, 20]]),
        shape("point", "left_ear", [[60, 10]], occluded=True),
        shape("rectangle", "cat", [[70, 60], [40, 5]]),
        shape("point", "nose", [[10, 20]], 2),
        shape("polygon", "tree", [[1, 2], [3, 4], [5, 6]], None),
    ]
    content = {"imagePath": "..\\a.jpg", "imageWidth": 100, "imageHeight": 80, "shapes": shapes}
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = labelme.read(tmp_path, None, CAT)
    first, second = data["annotations"]
    assert first["bbox"] == [40, 5, 30, 55]
    assert triples(first).tolist() == [[50, 20, 2], [60, 10, 1], [0, 0, 0]]
    assert second["num_keypoints"] == 1
    assert data["images"][0]["file_name"] == "a.jpg"
    alone = labelme.read(tmp_path, None, None)  # labels alone do not tell the other ear
    assert alone["categories"][0]["keypoints"] == ["left_ear", "nose"]
    shapes[3]["group_id"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="a person has two 'nose'"):
        labelme.read(tmp_path, None, CAT)
    shapes[3]["label"] = "whisker"
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="'whisker' is not a joint: use one of nose, left_ear"):
        labelme.read(tmp_path, None, CAT)
    (tmp_path / "a.json").write_text(json.dumps(content | {"shapes": shapes[3:4]}))
    assert labelme.read(tmp_path, None, None)["categories"][0]["keypoints"] == ["whisker"]
    with pytest.raises(FileNotFoundError, match="no Labelme JSON in"):
        labelme.read(tmp_path / "none", None, CAT)


def test_cvat(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(
        """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
  <image id="0" name="a.jpg" width="100" height="80">
    <skeleton label="cat" z_order="0">
      <points label="nose" outside="0" occluded="0" points="50.00,20.00"></points>
      <points label="right_ear" outside="0" occluded="1" points="60.00,10.00"></points>
      <points label="left_ear" outside="1" occluded="0" points="40.00,10.00"></points>
    </skeleton>
  </image>
  <image id="1" name="b.jpg" width="50" height="40"></image>
</annotations>"""
    )
    data = cvat.read(path, None, CAT)
    assert triples(data["annotations"][0]).tolist() == [[50, 20, 2], [0, 0, 0], [60, 10, 1]]
    assert data["annotations"][0]["bbox"] == [48, 8, 14, 14]  # a tenth of 10, and a pixel, around
    assert [image["file_name"] for image in data["images"]] == ["a.jpg", "b.jpg"]
    own = cvat.read(path, None, None)
    assert own["categories"][0]["keypoints"] == ["nose", "right_ear", "left_ear"]
    path.write_text("<annotations><image/></annotations>")
    with pytest.raises(ValueError, match="export the task as 'CVAT for images"):
        cvat.read(path, None, CAT)


def test_coco_is_completed_and_mended(tmp_path):
    points = [[20, 30, 2], [25, 90, 2], [22, 60, 1]]
    person = {"id": 5, "image_id": 3, "keypoints": [v for p in points for v in p]}
    boxed = person | {"id": 6, "bbox": [10, 20, 30, 75], "num_keypoints": 1}
    stale = {"id": 1, "name": "cat", "keypoints": list(CAT.joints), "skeleton": [[1, 17]]}
    image = {"id": 3, "file_name": "a.jpg", "width": 100, "height": 80, "crowdIndex": 0.4}
    data = {"images": [image], "annotations": [person, boxed], "categories": [stale]}
    (tmp_path / "a.json").write_text(json.dumps(data))
    made = coco.read(tmp_path / "a.json", None, None)
    assert (made["images"][0]["width"], made["images"][0]["height"]) == (80, 100)
    assert made["images"][0]["crowdIndex"] == 0.4
    first, second = made["annotations"]
    assert (first["id"], first["num_keypoints"], first["iscrowd"]) == (5, 3, 0)
    assert first["bbox"] == [13, 23, 19, 74]  # extent 5 x 60, 7 around
    assert second["bbox"] == [10, 20, 30, 75]
    assert second["area"] == pytest.approx(0.53 * 30 * 75, abs=0.01)
    assert second["num_keypoints"] == 1  # CrowdPose counts otherwise, and AP goes by it
    assert made["categories"][0]["skeleton"] == []


def test_crowdposes_own_file(real_data):
    path = real_data / "crowdpose" / "annotations" / "crowdpose_val.json"
    before, made = json.loads(path.read_text()), coco.read(path, None, None)
    assert made["images"] == before["images"]
    assert CROWDPOSE.to_category().items() <= made["categories"][0].items()
    for old, new in zip(before["annotations"], made["annotations"], strict=True):
        assert old.items() <= new.items()
        assert new["area"] == pytest.approx(0.53 * old["bbox"][2] * old["bbox"][3], abs=0.01)


def test_command(tmp_path, monkeypatch, capsys):
    """What the command writes is read by training, and the doctor has nothing against it."""
    for n in range(3):
        picture(tmp_path / "images" / f"{n}.png", (90 + n, 80))
        (tmp_path / "labels").mkdir(exist_ok=True)
        shares = f"0.5 0.2 2 0.{6 + n} 0.1 2 0.{4 - n} 0.1 2"
        (tmp_path / "labels" / f"{n}.txt").write_text(f"0 0.5 0.5 0.8 0.9 {shares}")
    (tmp_path / "cat.yaml").write_text(
        "joints: [nose, left_ear, right_ear]\nlimbs: [[nose, left_ear], [nose, right_ear]]\n"
        "sigmas: [0.03, 0.04, 0.04]\n"
    )
    out = tmp_path / "out" / "a.json"
    words = [
        "from=yolo",
        f"source={tmp_path}/labels",
        f"skeleton={tmp_path}/cat.yaml",
        f"out={out}",
    ]
    monkeypatch.setattr(sys, "argv", ["kdpose.convert", *words])
    kdpose.convert.main()
    assert "3 persons of 3 joints in 3 images" in capsys.readouterr().out
    skeleton = read_skeleton(tmp_path / "cat.yaml")
    assert len(load_persons(out, skeleton)) == 3
    where = {"": {"annotations": str(out), "images": str(tmp_path / "images")}}
    found = inspect(where, skeleton).findings
    assert exit_code(found) == 0, found
    monkeypatch.setattr(sys, "argv", ["kdpose.convert", "from=voc", *words[1:]])
    with pytest.raises(SystemExit):
        kdpose.convert.main()
    assert "from must be one of mpii, lsp, yolo" in capsys.readouterr().err


def test_cvat_declares_no_entities(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(
        '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>'
    )
    with pytest.raises(ValueError, match=r"annotations\.xml .*declares entities"):
        cvat.read(path, None, CAT)
