"""Videos and cameras, frame by frame, through PyAV (FFmpeg), in constant memory."""

import logging
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts"}
_CAMERAS = {  # FFmpeg's names of the system's camera interface and of its camera i
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}"),
    "win32": ("dshow", "video={}"),
}


class Frame(NamedTuple):
    """One picture of a video: its number from 0, its time in seconds, ``(H, W, 3)`` uint8 RGB."""

    number: int
    time: float
    image: NDArray[np.uint8]


def is_video(source: str) -> bool:
    """Whether a source is a camera's number or, by its suffix, a video."""
    return source.isdecimal() or Path(source).suffix.lower() in _SUFFIXES


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise ValueError("videos need the extra: pip install 'kdpose[video]'") from None
    return av


class VideoReader:
    """The frames of a video file or of a camera.

    Attributes:
        rate: frames per second.
        count: frames in the file, or None if unknown, as for a camera.
        live: whether it is a camera.

    Args:
        source: a path, or a camera's number.

    Raises:
        FileNotFoundError: the file or camera does not exist.
        ValueError: it is not a video.
    """

    def __init__(self, source: str) -> None:
        av = _pyav()
        self.live = source.isdecimal()
        if self.live:
            form, name = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
            where, what = name.format(source), f"camera {source}"
        else:
            form, where, what = None, str(Path(source).absolute()), "video"
            if Path(where).exists() and not Path(where).is_file():  # a pipe would be waited for
                raise ValueError(f"video {where} (from source) cannot be opened: it is not a file")
        self.where = f"{what} {where} (from source)"
        try:
            self._container = av.open(where, format=form)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            refused = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            reason = getattr(error, "strerror", None) or error
            raise refused(f"{self.where} cannot be opened: {reason}") from None
        if not self._container.streams.video:
            raise ValueError(f"{where} (from source) contains no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.rate = float(self._stream.average_rate or 30)
        self.count: int | None = self._stream.frames or None

    def __iter__(self) -> Iterator[Frame]:
        """Decode one frame after the other, rotated upright."""
        start = None
        for number, frame in enumerate(self._decoded()):
            time = frame.time if frame.time is not None else number / self.rate
            start = time if start is None else start
            image = frame.to_ndarray(format="rgb24")
            turns = round(frame.rotation / 90) % 4  # set by phones, counterclockwise
            yield Frame(number, time - start, np.ascontiguousarray(np.rot90(image, turns)))

    def _decoded(self) -> Iterator[Any]:
        """PyAV's frames; parts of the file that are damaged are skipped and counted."""
        found, broken = 0, 0
        damaged = _pyav().error.InvalidDataError
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                frames = [] if packet is None else packet.decode()
            except EOFError:  # before the end that the file's head tells
                packet = None
            except damaged:
                broken += 1
                continue
            if packet is None:
                break
            found += len(frames)
            yield from frames
        if not found:
            raise ValueError(f"{self.where} has no frame that can be read")
        if broken:
            _log.warning("%s: %d damaged parts are skipped", self.where, broken)
        if self.count and found < self.count:
            _log.warning("%s: %d of %d frames can be read", self.where, found, self.count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()


class VideoWriter:
    """Writes H.264 to a file in the format of its suffix, at the first frame's size.

    Args:
        path: of the video.
        rate: frames per second.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self._container = _pyav().open(str(path), "w")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame ``(H, W, 3)``; an odd last row or column is cropped, as H.264 requires."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
        even = np.ascontiguousarray(image[:height, :width])
        frame = _pyav().VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file, so that it can be played even after an interruption."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
