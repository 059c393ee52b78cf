import numpy as np
import pytest
from PIL import Image

from kdpose.data.sources import images
from kdpose.data.sources.images import ImageFiles, decode_jpeg, read_image


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
    with pytest.raises(FileNotFoundError, match=r"no image at .*none\.jpg"):
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
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        files.read(1)


def noise(path, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", **options)
    return path.read_bytes()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("restart", [0, 1])
def test_the_first_rows_are_the_whole_images(tmp_path, subsampling, restart):
    data = noise(tmp_path / "a", subsampling=subsampling, restart_marker_rows=restart)
    whole = decode_jpeg(data)
    for height in (1, 15, 16, 17, 64, 133, 134, 149, 150, 400):
        top = decode_jpeg(memoryview(data), height)
        assert len(top) == min(150, height + 16)
        np.testing.assert_array_equal(top[:height], whole[: min(150, height)])


def test_jpegs_that_must_be_decoded_whole(tmp_path):
    progressive = noise(tmp_path / "p", progressive=True)
    assert decode_jpeg(progressive, 20).shape == (150, 70, 3)
    followed = noise(tmp_path / "f") + b"more"
    np.testing.assert_array_equal(decode_jpeg(followed, 20), decode_jpeg(followed))
    broken_off = noise(tmp_path / "b")[:-2000]
    with pytest.raises(ValueError, match="Premature end"):
        decode_jpeg(broken_off, 20)


def test_real_photographs_first_rows(real_data):
    for path in sorted((real_data / "coco_mini" / "val2017").glob("*.jpg"))[:8]:
        data = path.read_bytes()
        whole = decode_jpeg(data)
        for height in (50, len(whole) // 2):
            top = decode_jpeg(data, height)
            assert len(top) == height + 16
            np.testing.assert_array_equal(top[:height], whole[:height])


def test_rows_that_are_at_hand_are_not_read_again(tmp_path, monkeypatch):
    noise(tmp_path / "a.jpg")
    calls = []

    def counted(path, height, size):
        calls.append(height)
        return read_image(path, height, size)

    monkeypatch.setattr(images, "read_image", counted)
    files = ImageFiles(np.array(["a.jpg"] * 2), tmp_path)
    heights = [len(files.read(row, height)) for row, height in enumerate((40, 30))]
    assert (calls, heights) == ([40], [56, 56])
    assert len(files.read(0, 60)) == 76
    assert len(files.read(0)) == len(files.read(1, 10)) == 150
    assert calls == [40, 60, None]
    cached = ImageFiles(np.array(["a.jpg"] * 2), tmp_path, cache_images=1)
    assert len(cached.read(0, 40)) == len(cached.read(1)) == 150
    assert calls == [40, 60, None, None]


def test_frames_are_the_images(tmp_path):
    frame = ImageFiles(np.array(["a.png"] * 3), tmp_path).frame(np.arange(2))
    np.testing.assert_array_equal(frame, [[1, 1, 0, 0]] * 2)
