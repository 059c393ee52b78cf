import os

import numpy as np
import pytest

av = pytest.importorskip("av", reason="the extra kdpose[video] is not installed")

from kdpose.inference.video import VideoReader, VideoWriter, is_video  # noqa: E402 needs the extra


def ramp(number, size=(64, 48)):
    """A frame whose grey tells its number, with a bright left edge."""
    image = np.full((size[1], size[0], 3), 20 + 10 * number, np.uint8)
    image[:, :16] = 230
    return image


def write(path, frames, rate=10.0):
    video = VideoWriter(path, rate)
    for frame in frames:
        video.write(frame)
    video.close()


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_what_was_written_is_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write(path, [ramp(i) for i in range(12)])
    with VideoReader(str(path)) as video:
        assert video.rate == pytest.approx(10)
        frames = list(video)
    assert [f.number for f in frames] == list(range(12))
    np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 10, atol=1e-3)
    for frame in frames:
        expected = ramp(frame.number).astype(int)
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image[:, 20:] - expected[:, 20:]).mean() < 4
        assert np.abs(frame.image[:, :12] - 230).mean() < 8


def test_frames_come_one_by_one(tmp_path):
    """A video is never held whole: the first frame is there before the last is read."""
    write(tmp_path / "a.mp4", [ramp(i % 20) for i in range(100)])
    with VideoReader(str(tmp_path / "a.mp4")) as video:
        assert video.count == 100
        frames = iter(video)
        assert [next(frames).number, next(frames).number] == [0, 1]


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    write(tmp_path / "a.mp4", [ramp(i, (65, 47)) for i in range(3)])
    with VideoReader(str(tmp_path / "a.mp4")) as video:
        assert {f.image.shape for f in video} == {(46, 64, 3)}


def test_without_a_frame_there_is_no_file(tmp_path):
    VideoWriter(tmp_path / "a.mp4", 10).close()
    assert not (tmp_path / "a.mp4").exists()


def test_what_is_no_video(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"video {tmp_path}/none\.mp4 \(from source\)"):
        VideoReader(str(tmp_path / "none.mp4"))
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"a\.mp4 \(from source\) cannot be opened: Invalid data"):
        VideoReader(str(tmp_path / "a.mp4"))
    with pytest.raises((FileNotFoundError, ValueError), match=r"camera 97 .* cannot be opened"):
        VideoReader("97")


def test_is_video():
    assert all(map(is_video, ["0", "a.mp4", "b/c.MOV"]))
    assert not any(map(is_video, ["a.jpg", "folder", "-", "*.png", "7.png"]))


def test_damaged_parts_are_skipped_and_counted(tmp_path, caplog):
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3)).astype(np.uint8)
    write(path, noise)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov", start)
    middle = (start + end) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    with VideoReader(str(path)) as video:
        frames = list(video)
    assert 5 < len(frames) <= 20
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert len(frames) == 20 or f"video {path} (from source): " in caplog.text
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    with (
        pytest.raises(ValueError, match="has no frame that can be read"),
        VideoReader(str(path)) as video,
    ):
        list(video)


def test_a_video_that_ends_before_its_frames(tmp_path):
    path = tmp_path / "a.mkv"
    write(path, [ramp(i) for i in range(12)])
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the first cluster
    with pytest.raises(ValueError, match="cannot be opened: End of file"):
        VideoReader(str(path))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ValueError, match=rf"video {path} \(from source\) .*it is not a file"):
        VideoReader(str(path))
