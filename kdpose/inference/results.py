"""Results that survive an interruption: a line per finished picture, one JSON at the end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.inference.poses import ImagePoses
from kdpose.inference.video import Frame, VideoWriter
from kdpose.runtime.locks import hold
from kdpose.runtime.whole import write_json


class ImageResults:
    """Writes ``predictions.json`` of many pictures, and continues an interrupted run.

    Until the end, each picture's results are a line of ``predictions.part.jsonl``. Its first line
    has the settings; a file with other settings is not continued.

    Args:
        folder: for both files.
        settings: plain values that determine the results.

    Raises:
        ValueError: another process writes there.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / "predictions.json"
        self._part = folder / "predictions.part.jsonl"
        self._file = self._part.open("a+", encoding="utf-8")
        if not hold(self._file):
            self._file.close()
            raise ValueError(
                f"another kdpose predict writes to {folder.absolute()}: wait until it ends, or "
                "set out=ANOTHER_FOLDER"
            )
        self.done = self._earlier(settings)

    def _earlier(self, settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Results of an interrupted run by picture; an incomplete last line is cut off."""
        self._file.seek(0)  # by this file alone: closing another one of it gives up the lock
        lines: list[Any] = []
        end = 0
        for line in iter(self._file.readline, ""):
            if not line.endswith("\n"):
                break
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
            end = self._file.tell()
        if lines and lines[0] == settings:
            self._file.truncate(end)
            return dict(lines[1:])
        self._file.truncate(0)
        self._write(settings)
        return {}

    def _write(self, value: Any) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()

    def add(self, name: str, persons: list[dict[str, Any]]) -> None:
        """Keep the results of a picture."""
        self.done[name] = persons
        self._write([name, persons])

    def finish(self) -> int:
        """Write the JSON, in the order of the pictures; returns the number of persons."""
        persons = [person for found in self.done.values() for person in found]
        write_json(self.path, persons)
        self._part.unlink(missing_ok=True)
        self._file.close()
        return len(persons)

    def close(self) -> None:
        """Close the file; if unfinished, a later run continues it."""
        self._file.close()


class FrameResults:
    """Writes ``predictions.jsonl``, a line per frame of a video, and ``drawn.mp4``.

    Args:
        folder: for both files.
        rate: of the video, frames per second.
        draw: whether frames are drawn.
    """

    def __init__(self, folder: Path, rate: float, draw: bool) -> None:
        self.path = folder / "predictions.jsonl"
        self._lines = self.path.open("w")
        self._video = VideoWriter(folder / "drawn.mp4", rate) if draw else None

    def add(self, frame: Frame, poses: ImagePoses, identities: NDArray[np.int64]) -> None:
        """Write the COCO results of a frame, whose number is their image id.

        Args:
            frame: its number.
            poses: of P persons.
            identities: ``(P,)``, -1 for none, which is written as null.
        """
        persons = [
            {**person, "track_id": identity if identity >= 0 else None}
            for person, identity in zip(
                poses.to_coco(frame.number), identities.tolist(), strict=True
            )
        ]
        line = {"frame": frame.number, "time": round(frame.time, 6), "persons": persons}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def draw(self, picture: NDArray[np.uint8]) -> None:
        """Append a frame ``(H, W, 3)`` to the video."""
        if self._video is not None:
            self._video.write(picture)

    def close(self) -> None:
        """End both files."""
        self._lines.close()
        if self._video is not None:
            self._video.close()
