"""Pictures of every kind, upright or as they are stored."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from kdpose.data.sources.images import open_image, read_image
from kdpose.data.transforms import warp
from kdpose.runtime.image_header import UnreadableImage

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
            with pytest.raises(OSError, match=rf"cannot read the image {path}: "):
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


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_only_pictures_without_annotations_are_turned(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RED).save(path, exif=exif)
    assert read(path).shape == (60, 40, 3)
    assert read_image(path).shape == np.asarray(open_image(path, upright=False)).shape == RED.shape


def test_both_readers_say_the_same_of_a_broken_file(tmp_path):
    path = tmp_path / "a.jpg"
    for content in (b"", b"no picture", b"\xff\xd8no"):
        path.write_bytes(content)
        said = []
        for reader in (read_image, open_image):
            with pytest.raises(OSError, match="cannot read the image") as error:
                reader(path)
            said.append(str(error.value))
        assert said[0] == said[1]
        assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("orientation", "annotated", "corner"),
    [
        (6, (40, 30), "stored"),  # annotated as stored
        (6, (30, 40), "turned"),  # annotated upright
        (3, (40, 30), "stored"),  # the size cannot tell
        (1, (30, 40), "stored"),  # a swapped size, nothing to turn by
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_annotated_size_decides(tmp_path, suffix, orientation, annotated, corner):
    """The white corner is stored at the upper left; orientation 6 shows it at the upper right."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:15, :15] = 255
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    opened = open_image(path, size=annotated)
    again = np.asarray(open_image(opened))  # as the predictor does
    for found in (np.asarray(opened), again, read_image(path, size=annotated)):
        assert found.shape == ((40, 30, 3) if corner == "turned" else (30, 40, 3))
        column = -5 if corner == "turned" else 5
        assert found[5, column].min() > 200
        assert found[-5, -column].max() < 50


@pytest.mark.parametrize(
    ("side", "match"), [(9000, "9000 x 9000 pixels; the limit is 64,000,000"), (20_000, "bomb")]
)
def test_a_bomb_is_refused_by_its_header(tmp_path, side, match):
    path = tmp_path / "a.png"
    Image.new("1", (side, side)).save(path)
    tracemalloc.start()
    with pytest.raises(UnreadableImage, match=match):
        open_image(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_damaged_exif_turns_nothing(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 30)).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00")
    assert open_image(path).size == (40, 30)
