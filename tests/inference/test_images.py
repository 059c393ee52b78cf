import io
import sys

import numpy as np
import pytest
from PIL import Image

from kdpose.data.transforms import warp
from kdpose.inference.images import find_images, open_image

RED = np.zeros((40, 60, 3), np.uint8) + np.array([200, 40, 30], np.uint8)


def read(path):
    picture = open_image(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    values = np.linspace(0, 65535, 60, dtype=np.uint16)[None].repeat(40, 0)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "deep.tif")
    expected = np.rint(values / 257).astype(np.uint8)[..., None].repeat(3, -1)
    for name in ("deep.png", "deep.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), expected)


def test_floats_are_scaled_by_the_range_they_fit(tmp_path):
    values = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(40, 0)
    for top in (1, 255, 65535):
        Image.fromarray(values * top).save(tmp_path / "f.tif")
        assert np.abs(read(tmp_path / "f.tif")[0, :, 0] - values[0] * 255).max() <= 0.51
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "f.tif")
    assert read(tmp_path / "f.tif")[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("mode", "expected"), [("L", (89, 89, 89)), ("RGBA", (200, 40, 30)), ("P", (204, 51, 51))]
)
def test_modes(tmp_path, mode, expected):
    Image.fromarray(RED).convert(mode).save(tmp_path / "a.png")
    assert np.abs(read(tmp_path / "a.png")[0, 0].astype(int) - expected).max() <= 4


def test_cmyk_photographs_keep_their_colours(tmp_path):
    Image.fromarray(RED).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - RED).max() < 6


def test_what_is_transparent_shows_white(tmp_path):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:, 30:] = 0
    Image.fromarray(np.concatenate([RED, alpha], -1)).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [200, 40, 30]
    assert pixels[0, -1].tolist() == [255, 255, 255]


def test_broken_files_are_os_errors_that_name_them(tmp_path):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for kind in ("jpeg", "png", "tiff", "webp"):
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, kind)
        for share in (0, 0.001, 0.3):
            path = tmp_path / f"cut_{share}.{kind}"
            path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * share)])
            with pytest.raises(OSError, match=rf"cut_{share}\.{kind} cannot be read"):
                open_image(path)


def test_a_picture_beyond_the_limit_is_an_os_error(tmp_path, monkeypatch):
    Image.fromarray(RED).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(OSError, match="exceeds limit of 2000 pixels"):
        open_image(tmp_path / "a.png")


def test_longer_sides_than_can_be_cut_are_an_os_error(tmp_path):
    for width, good in ((32766, True), (32767, False)):
        pixels = np.zeros((4, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        if good:  # the crop can be cut from it
            assert warp(read(tmp_path / "a.png"), np.eye(2, 3), (8, 8)).shape == (8, 8, 3)
            continue
        with pytest.raises(OSError, match="it has 32767 x 4 pixels; the limit is 32766 per side"):
            open_image(tmp_path / "a.png")


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
    with pytest.raises(ValueError, match=r"a\.json \(from source\) is not a COCO file"):
        find_images(str(tmp_path / "a.json"))
