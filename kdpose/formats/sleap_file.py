"""The tables in SLEAP's HDF5 files: frames, instances, points, skeleton, embedded pictures."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, Self

from kdpose.formats.persons import Person, Picture, Point, by_number, confident, nearest

_NO_FRAME = "frames are not in the folder of images and are left out"
_GUESSED = "predictions are of frames with persons labelled by hand and are left out"
_WHOLE_PIXELS = 1.1  # from this format on, the middle of the first pixel is 0; before, 0.5


class SleapFile:
    """A file that is open for reading, to be used in ``with``.

    Args:
        path: of the ``.slp``.

    Attributes:
        joints: names, in the skeleton's order.
        limbs: pairs of names.
        flip_pairs: pairs of names that the skeleton calls symmetric.

    Raises:
        ValueError: h5py is not installed, or the file is not SLEAP's.
    """

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise ValueError(
                f"{path.absolute()} (from source) is HDF5: `pip install kdpose[hdf5]`, or export "
                "an analysis CSV"
            ) from None
        self.path = path
        try:
            self.file: Any = h5py.File(path, "r")
            self.metadata = json.loads(self.file["metadata"].attrs["json"])
            self.frames, self.instances = self.file["frames"][:], self.file["instances"][:]
            self.points = [self.file["points"][:], self.file["pred_points"][:]]
            self.videos = [json.loads(text) for text in self.file["videos_json"][:]]
            self.joints, self.limbs, self.flip_pairs = _skeleton(self.metadata)
        except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path.absolute()} (from source) is no .slp of SLEAP: {error}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def pictures(self, images: Path | None, lost: Counter[str]) -> list[Picture]:
        """The labelled frames with their persons.

        Args:
            images: folder of the frames, or to which embedded ones are written.
            lost: reasons why things are left out, with their counts.
        """
        names = [self._names(video, images) for video in range(len(self.videos))]
        found = []
        for frame in self.frames:
            name = names[int(frame["video"])].get(int(frame["frame_idx"]))
            if name is None:
                lost[_NO_FRAME] += 1
                continue
            start, end = int(frame["instance_id_start"]), int(frame["instance_id_end"])
            listed = self.instances[start:end]
            drawn = [one for one in listed if one["instance_type"] == 0]
            lost[_GUESSED] += len(listed) - len(drawn) if drawn else 0
            persons = [Person(self._points(one, lost)) for one in drawn or listed]
            found.append(Picture(name, persons))
        return found

    def _points(self, instance: Any, lost: Counter[str]) -> dict[str, Point]:
        """The visible points of an instance."""
        predicted = int(instance["instance_type"])
        start, end = int(instance["point_id_start"]), int(instance["point_id_end"])
        shift = 0.0 if float(self.file["metadata"].attrs["format_id"]) >= _WHOLE_PIXELS else 0.5
        return {
            joint: (
                float(point["x"]) - shift,
                float(point["y"]) - shift,
                confident(float(point["score"]), lost) if predicted else 2.0,
            )
            for joint, point in zip(self.joints, self.points[predicted][start:end], strict=False)
            if point["visible"] and point["x"] == point["x"]
        }

    def _names(self, number: int, images: Path | None) -> dict[int, str]:
        """The image files of a video by the frame's number."""
        backend = self.videos[number].get("backend", self.videos[number])
        stored = self.file.get(backend.get("dataset") or f"video{number}/video")
        if stored is not None:
            return self._written(number, stored, images)
        listed = backend.get("filenames") or backend.get("filename")
        if not isinstance(listed, list):
            return self._frames(str(listed), images)
        folder = images or self.path.parent
        names = enumerate(nearest(str(name), folder) for name in listed)
        return {k: name for k, name in names if name}

    def _frames(self, video: str, images: Path | None) -> dict[int, str]:
        """The frames of a video; of several, each has a folder of its name."""
        if images is None or len(self.videos) == 1:
            return by_number(images, self.path)
        stem = Path(video.replace("\\", "/")).stem
        return {k: f"{stem}/{name}" for k, name in by_number(images / stem, self.path).items()}

    def _written(self, number: int, stored: Any, images: Path | None) -> dict[int, str]:
        """Write the pictures that a video holds, encoded as they are."""
        kind = stored.attrs.get("format", "png")
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        if kind not in ("png", "jpg", "jpeg"):
            raise ValueError(
                f"{self.path.absolute()} (from source) holds pictures as '{kind}': export it again "
                "with PNG"
            )
        if images is None:
            raise ValueError(
                f"{self.path.absolute()} (from source) holds its pictures: set images=FOLDER, to "
                "which they are written"
            )
        images.mkdir(parents=True, exist_ok=True)
        names = {}
        for k, frame in enumerate(stored.parent["frame_numbers"][:]):
            names[int(frame)] = f"video{number}_{int(frame):06d}.{kind}"
            (images / names[int(frame)]).write_bytes(bytes(stored[k].astype("uint8")))
        return names


def _skeleton(metadata: Any) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Joints, limbs and symmetric pairs; the kind of a link is written once, then by number."""
    nodes = [str(node["name"]) for node in metadata["nodes"]]
    first = metadata["skeletons"][0]
    order = [int(node["id"]) for node in first["nodes"]]
    seen: list[int] = []
    pairs: dict[int, list[tuple[str, str]]] = {1: [], 2: []}
    for link in first.get("links") or ():
        kind = link["type"]
        if "py/reduce" in kind:
            seen.append(int(kind["py/reduce"][1]["py/tuple"][0]))
            value = seen[-1]
        else:
            value = seen[int(kind["py/id"]) - 1]
        pairs[value].append((nodes[int(link["source"])], nodes[int(link["target"])]))
    symmetric = list({frozenset(pair): pair for pair in pairs[2]}.values())
    return [nodes[k] for k in order], pairs[1], symmetric
