import io
import sys

import numpy as np
import pytest
from PIL import Image

from kdpose.inference.images import find_images

RED = np.zeros((40, 60, 3), np.uint8) + np.array([200, 40, 30], np.uint8)


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RED).save(root / name)


def test_sources(tmp_path, monkeypatch):
    files(tmp_path, "b/7.png", "b/10.JPG", "b/deep/x.png")
    (tmp_path / "b/notes.txt").write_text("none")

    def found(source, **options):
        return [(i.path.name, i.image_id) for i in find_images(str(source), **options)]

    assert found(tmp_path / "b/7.png") == [("7.png", 7)]
    assert found(tmp_path / "b") == [("10.JPG", 10), ("7.png", 7)]
    assert found(tmp_path / "*/*.png") == [("7.png", 7)]
    assert found(tmp_path / "**/*") == [("10.JPG", 1), ("7.png", 2), ("x.png", 3)]
    lines = f"{tmp_path}/b/deep/x.png\n\n{tmp_path}/b/7.png\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert found("-") == [("x.png", 1), ("7.png", 2)]
    files(tmp_path, "odd[1].png")  # a name that is no pattern
    assert found(tmp_path / "odd[1].png") == [("odd[1].png", 1)]


def test_sources_without_images(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=rf"no image or folder at {tmp_path}/none"):
        find_images(str(tmp_path / "none"))
    with pytest.raises(ValueError, match=rf"no image in {tmp_path} \(from source\)"):
        find_images(str(tmp_path))
    with pytest.raises(ValueError, match="no image in"):
        find_images(str(tmp_path / "*.png"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(ValueError, match="no image in standard input"):
        find_images("-")


@pytest.mark.parametrize("folder", ["val2017", "images", "images/val2017", "annotations", "."])
def test_annotation_files_find_their_images(tmp_path, folder):
    files(tmp_path, f"{folder}/a.jpg")
    (tmp_path / "annotations").mkdir(exist_ok=True)
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    path.write_text('{"images": [{"id": 42, "file_name": "a.jpg"}], "annotations": []}')
    (image,) = find_images(str(path))
    assert (image.path.resolve(), image.image_id) == ((tmp_path / folder / "a.jpg").resolve(), 42)
    assert find_images(str(path), str(tmp_path / folder))[0].image_id == 42
    with pytest.raises(FileNotFoundError, match=r"no a\.jpg of .* in .*/else: set images=FOLDER"):
        find_images(str(path), str(tmp_path / "else"))


def test_a_json_without_images(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json \(from source\) is a list: of detections"):
        find_images(str(tmp_path / "a.json"))
