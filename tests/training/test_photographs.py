"""Boxes for photographs that nobody has annotated, by the command, on real ones."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kdpose.convert
import kdpose.data.bundled
import kdpose.doctor
from kdpose.data.annotations import load_persons
from kdpose.data.sources.images import read_image
from kdpose.inference.multipose import MultiPoseDetector
from kdpose.skeletons.known import COCO
from kdpose.training.photographs import find_boxes


def convert(*words):
    before, sys.argv = sys.argv, ["kdpose.convert", "from=images", *map(str, words)]
    try:
        kdpose.convert.main()
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def photographs(real_data, tmp_path_factory):
    """Six photographs of everyday actions, one grey picture of nobody, and a broken file."""
    folder = tmp_path_factory.mktemp("photographs")
    with tarfile.open(real_data / "stanford40.tar.gz") as archive:
        for member in archive:
            if member.name.endswith(".jpg"):
                name = member.name.rpartition("/")[2]
                (folder / name).write_bytes(archive.extractfile(member).read())
                if len(list(folder.iterdir())) == 6:
                    break
    Image.new("RGB", (64, 64), "grey").save(folder / "nobody.png")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def test_a_folder_gets_the_detectors_boxes(photographs, tmp_path, capsys, monkeypatch):
    out = tmp_path / "boxes.json"
    convert(f"source={photographs}", f"out={out}", "detector.name=multipose")
    said = " ".join(capsys.readouterr().out.split())
    data = json.loads(out.read_text())
    persons = data["annotations"]
    assert f"boxes of {len(persons)} persons in 7 images (1 without any, 1 skipped)" in said
    assert "broken.jpg" in said
    assert data["categories"][0]["keypoints"] == list(COCO.joints)
    names = {image["id"]: image["file_name"] for image in data["images"]}
    assert len({person["image_id"] for person in persons}) == 6
    find = MultiPoseDetector()
    for number, name in names.items():
        boxes, _ = find(Image.open(photographs / name).convert("RGB"))
        ours = [person["bbox"] for person in persons if person["image_id"] == number]
        np.testing.assert_allclose(ours or np.zeros((0, 4)), boxes, atol=0.01)
    assert len(load_persons(out, COCO, unlabelled=True)) == len(persons)
    words = [f"annotations={out}", f"images={photographs}"]
    monkeypatch.setattr(sys, "argv", ["kdpose.doctor", *words])
    kdpose.doctor.main()  # has nothing against it
    assert "boxes alone" in " ".join(capsys.readouterr().out.split())


def test_an_annotation_file_keeps_its_images_and_ids(real_data, tmp_path, capsys):
    coco = real_data / "coco_mini"
    listed = json.loads((coco / "annotations/person_keypoints_val2017.json").read_text())
    images = listed["images"][:3]
    (tmp_path / "images.json").write_text(json.dumps({"images": images, "annotations": []}))
    out = tmp_path / "boxes.json"
    source = [f"source={tmp_path}/images.json", f"images={coco}/val2017"]
    convert(*source, f"out={out}", "skeleton=crowdpose", "detector.name=multipose")
    made = json.loads(out.read_text())
    for given, ours in zip(images, made["images"], strict=True):
        assert all(given[key] == ours[key] for key in ("id", "file_name", "width", "height"))
    assert len(made["categories"][0]["keypoints"]) == 14
    assert made["annotations"]


def test_nobody_found_is_an_error(tmp_path, capsys):
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "a.png")
    with pytest.raises(SystemExit):
        convert(f"source={tmp_path}", f"out={tmp_path}/a.json", "detector.name=multipose")
    assert "no person was found in the 1 images of" in capsys.readouterr().err


def test_photographs_that_exif_turns_are_seen_upright(tmp_path):
    """The boxes are those of the upright photograph, and training reads the pixels they are of."""
    folder = Path(kdpose.data.bundled.__file__).parent / "images"
    with Image.open(folder / "000000174375.jpg") as picture:
        upright = picture.convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    found = find_boxes(str(tmp_path), COCO, detector={"name": "multipose"}).content
    assert [(i["width"], i["height"]) for i in found["images"]] == [upright.size] * 2
    boxes = [[p["bbox"] for p in found["annotations"] if p["image_id"] == n] for n in (1, 2)]
    assert boxes[0] == boxes[1] != []
    for image in found["images"]:
        size = (image["width"], image["height"])
        pixels = read_image(tmp_path / image["file_name"], size=size)
        np.testing.assert_array_equal(pixels, np.asarray(upright))
