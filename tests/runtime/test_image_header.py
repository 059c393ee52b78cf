import os

import pytest
from PIL import Image

from kdpose.runtime.image_header import UnreadableImage, orientation, pictures, stored_size


def test_stored_size_is_not_turned(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert stored_size(tmp_path / "a.jpg") == (40, 30)
    with Image.open(tmp_path / "a.jpg") as file:
        assert orientation(file) == 6


@pytest.mark.parametrize("kind", ["gif", "avif", "webp", "tif", "bmp", "jp2"])
def test_formats(tmp_path, kind):
    Image.new("RGB", (40, 30), "red").save(tmp_path / f"a.{kind}")
    assert stored_size(tmp_path / f"a.{kind}") == (40, 30)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "large", "program"])
def test_what_is_no_picture_is_not_opened(tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2**30)
    else:
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImage, match=f"cannot read the image {path}: "):
        stored_size(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no image at {tmp_path / 'a.png'}"):
        stored_size(tmp_path / "a.png")


def test_pictures_of_other_formats_are_told_apart(tmp_path):
    names = ["b.PNG", "a.gif", "c.heic", "d.txt", "e.avif"]
    images, others = pictures(tmp_path / name for name in names)
    assert [path.name for path in images] == ["a.gif", "b.PNG", "e.avif"]
    assert [path.name for path in others] == ["c.heic"]
