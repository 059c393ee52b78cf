"""Changes that mean nothing: figures must stay as they were."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Write = Callable[[Path], object]
_FILES = {"annotations": "a.json", "results": "p.json", "detections": "d.json"}
_OPTIONAL = ("area", "iscrowd", "num_keypoints", "segmentation", "track_id")
_EMPTY: tuple[Any, ...] = (None, "absent")


def files() -> Iterator[tuple[str, str, Write]]:
    """Kind, name and the change of a folder's files."""
    for kind, file in _FILES.items():
        yield kind, "byte-order mark", _text(file, lambda text: "\ufeff" + text)
        yield kind, "indented", _text(file, lambda text: json.dumps(json.loads(text), indent=4))
        yield kind, "Windows line ends", _text(file, _windows)
        yield kind, "keys in another order", _each(file, lambda node: dict(reversed(node.items())))
        yield kind, "ids as floats", _each(file, _as_floats)
        yield kind, "unknown keys", _each(file, lambda node: node | {"zzz": {"a": [None, 1.5]}})
        yield kind, "numbers as floats", _text(file, _floats)
        for seed in range(4):
            yield kind, f"shuffled {seed}", _shuffled(file, seed)
    yield "annotations", "no info, no licenses", _top(lambda data: _without(data, "info"))
    yield "annotations", "ids of 60 bits", _each("a.json", _large)
    yield "annotations", "keypoints nested", _persons(_nested)
    yield "annotations", "image without persons added", _top(_with_picture)
    for key in _OPTIONAL[1:]:
        for value in _EMPTY:
            yield "annotations", f"{key} {value}", _persons(_put(key, value))
    for key in ("width", "height"):
        for value in _EMPTY:
            yield "annotations", f"image's {key} {value}", _images(_put(key, value))


def _text(file: str, change: Callable[[str], str]) -> Write:
    def write(folder: Path) -> None:
        path = folder / file
        path.write_bytes(change(path.read_text()).encode())

    return write


def _windows(text: str) -> str:
    return json.dumps(json.loads(text), indent=1).replace("\n", "\r\n")


def _floats(text: str) -> str:
    """Boxes and joints that are whole numbers, as floats."""
    data = json.loads(text)
    for node in data["annotations"] if isinstance(data, dict) else data:
        for key in ("bbox", "keypoints"):
            if key in node:
                node[key] = [float(value) for value in node[key]]
    return json.dumps(data)


def _each(file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    """Change every image, annotation and result."""

    def write(folder: Path) -> None:
        path = folder / file
        data = json.loads(path.read_text())
        if isinstance(data, list):
            data = [change(node) for node in data]
        else:
            data |= {key: [change(n) for n in data[key]] for key in ("images", "annotations")}
        path.write_text(json.dumps(data))

    return write


def _as_floats(node: dict[str, Any]) -> dict[str, Any]:
    ids = ("id", "image_id", "category_id")
    return {key: float(value) if key in ids else value for key, value in node.items()}


def _large(node: dict[str, Any]) -> dict[str, Any]:
    if "keypoints" in node:
        return node | {"id": node["id"] + 2**59}
    return node


def _shuffled(file: str, seed: int) -> Write:
    def change(text: str) -> str:
        data, rng = json.loads(text), random.Random(seed)
        for part in [data] if isinstance(data, list) else (data["images"], data["annotations"]):
            rng.shuffle(part)
        return json.dumps(data)

    return _text(file, change)


def _top(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    return _text("a.json", lambda text: json.dumps(change(json.loads(text))))


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in (key, "licenses")}


def _persons(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    return _top(lambda data: data | {"annotations": [change(n) for n in data["annotations"]]})


def _images(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Write:
    return _top(lambda data: data | {"images": [change(n) for n in data["images"]]})


def _put(key: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if value == "absent":
        return lambda node: {name: old for name, old in node.items() if name != key}
    return lambda node: node | {key: value}


def _nested(node: dict[str, Any]) -> dict[str, Any]:
    flat = node["keypoints"]
    return node | {"keypoints": [flat[n : n + 3] for n in range(0, len(flat), 3)]}


def _with_picture(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"images": [*data["images"], data["images"][0] | {"id": 999}]}
