import numpy as np
import pytest
from PIL import Image

from kdpose.data.images import ImageFiles, read_image


@pytest.fixture
def pixels():
    rows, columns = np.mgrid[0:48, 0:61]
    return np.stack([rows * 5, columns * 4, 255 - rows * 2], -1).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_pixels_are_pillows(tmp_path, pixels, mode, ending):
    if (mode, ending) == ("CMYK", "png"):
        pytest.skip("PNG has no CMYK")
    path = tmp_path / f"a.{ending}"
    Image.fromarray(pixels).convert(mode).save(path)
    with Image.open(path) as file:
        expected = np.asarray(file.convert("RGB"))
    rounding = 1 if mode == "CMYK" else 0
    np.testing.assert_allclose(read_image(path), expected, rtol=0, atol=rounding)


def test_what_is_no_picture(tmp_path, pixels):
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path)
    whole = path.read_bytes()
    for broken in (b"", b"\xff\xd8no", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"cannot read the image {path}: "):
            read_image(path)
    with pytest.raises(ValueError, match=r"cannot read the image .*none\.jpg: .*No such file"):
        read_image(tmp_path / "none.jpg")


def test_cache(tmp_path, pixels):
    for name in "abc":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    files = ImageFiles(np.array(["a.png", "b.png", "c.png", "a.png"]), tmp_path, cache_images=1)
    first = files.read(0)
    assert files.read(1) is files.read(1)  # the last is at hand, cached or not
    files.read(2)
    for name in "abc":
        (tmp_path / f"{name}.png").unlink()
    assert files.read(3) is first
    with pytest.raises(ValueError, match=r"b\.png"):
        files.read(1)


def test_frames_are_the_images(tmp_path):
    frame = ImageFiles(np.array(["a.png"] * 3), tmp_path).frame(np.arange(2))
    np.testing.assert_array_equal(frame, [[1, 1, 0, 0]] * 2)
