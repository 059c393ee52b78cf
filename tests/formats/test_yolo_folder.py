"""Ultralytics' data sets by their ``data.yaml``."""

import json
import sys

import pytest
from PIL import Image

import kdpose.convert
from kdpose.data.sources.images import open_image
from kdpose.formats import yolo_folder
from kdpose.skeletons.files import category_skeleton

YAML = """
path: {path}
train: images/train
val: [images/val, images/more]
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names: {{0: cat, 1: dog}}
kpt_names: {{0: [nose, ear_a, ear_b]}}
"""


@pytest.fixture
def dataset(tmp_path):
    for n, split in enumerate(("train", "val", "more")):
        folder = tmp_path / "set" / "images" / split
        labels = tmp_path / "set" / "labels" / split
        folder.mkdir(parents=True)
        labels.mkdir(parents=True)
        Image.new("RGB", (100, 80), "gray").save(folder / f"{split}.jpg")
        (labels / f"{split}.txt").write_text(f"{n % 2} .5 .5 .4 .5 .1 .1 2 .2 .2 1 0 0 0\n")
    (tmp_path / "set" / "a.yaml").write_text("kpt_shape: [9, 3]\n")  # another one, not meant
    (tmp_path / "set" / "data.yaml").write_text(YAML.format(path="."))
    return tmp_path / "set" / "data.yaml"


def test_splits(dataset):
    found = yolo_folder.read(dataset, None)
    assert list(found) == ["train", "val"]
    val = found["val"]
    assert [(i["id"], i["file_name"]) for i in val["images"]] == [
        (1, "images/val/val.jpg"),
        (2, "images/more/more.jpg"),
    ]
    assert [(p["id"], p["image_id"], p["category_id"]) for p in val["annotations"]] == [
        (1, 1, 2),
        (2, 2, 1),
    ]
    assert val["annotations"][0]["keypoints"] == [10, 8, 2, 20, 16, 1, 0, 0, 0]
    assert [c["name"] for c in val["categories"]] == ["cat", "dog"]
    skeleton = category_skeleton(val["categories"][0])
    assert skeleton.joints == ("nose", "ear_a", "ear_b")
    assert skeleton.flip_order == (0, 2, 1)


@pytest.mark.parametrize("path", ["/not/here", "set"])
def test_a_path_that_is_elsewhere(dataset, path):
    dataset.write_text(YAML.format(path=path).replace("images/train", "../images/train"))
    assert yolo_folder.read(dataset, None)["train"]["images"][0]["file_name"].startswith("images/")


def test_refused(dataset):
    with pytest.raises(FileNotFoundError, match=r"no data\.yaml"):
        yolo_folder.read(dataset.with_name("b.yaml"), None)
    dataset.write_text("train: images/train\n")
    with pytest.raises(ValueError, match="has no kpt_shape"):
        yolo_folder.read(dataset, None)
    dataset.write_text("kpt_shape: [3, 3]\n")
    with pytest.raises(ValueError, match="neither train, val nor test"):
        yolo_folder.read(dataset, None)
    dataset.write_text("kpt_shape: [3, 3]\nval: val.txt\n")
    with pytest.raises(FileNotFoundError, match="name folders, not lists of files"):
        yolo_folder.read(dataset, None)


def test_command(dataset, monkeypatch, capsys, tmp_path):
    words = ["from=yolo", f"source={dataset}", f"out={tmp_path}/annotations"]
    monkeypatch.setattr(sys, "argv", ["kdpose.convert", *words])
    kdpose.convert.main()
    assert "1 persons of 3 joints in 1 images" in capsys.readouterr().out
    val = json.loads((tmp_path / "annotations" / "val.json").read_text())
    assert len(val["annotations"]) == 2
    monkeypatch.setattr(sys, "argv", ["kdpose.convert", *words, "images=x"])
    with pytest.raises(SystemExit):
        kdpose.convert.main()
    assert "gives images and categories" in capsys.readouterr().err


@pytest.mark.parametrize(("orientation", "size"), [(1, (100, 80)), (6, (80, 100)), (3, (100, 80))])
def test_relative_coordinates_are_of_the_upright_photograph(dataset, orientation, size):
    """As Ultralytics reads it; training turns the pixels by the size that is written."""
    path = dataset.parent / "images/train/train.jpg"
    exif = Image.Exif()
    exif[274] = orientation
    Image.open(path).save(path, exif=exif)
    train = yolo_folder.read(dataset, None)["train"]
    assert (train["images"][0]["width"], train["images"][0]["height"]) == size
    assert train["annotations"][0]["keypoints"][:2] == [0.1 * size[0], 0.1 * size[1]]
    assert open_image(path, size=size).size == size
