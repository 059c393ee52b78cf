"""Files and overrides that are wrong, or only unusual, each with a name by which it is repeated."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.reliability import broken, neutral

Write = Callable[[Path], object]
GONE = object()
_ODD: tuple[Any, ...] = (
    GONE, None, "", [], {}, "x", "7", 2.0, 2.5, -1, 0, math.inf, math.nan, True, [1], 1e30, 2**70,
    [[1]], "../x",
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (None, "5", math.nan, math.inf, -3, 1e30, [5], True, 0.3, 3)
_ANNOTATIONS: tuple[tuple[Any, ...], ...] = (
    ("images",), ("annotations",), ("categories",), ("images", 0), ("annotations", 0),
    *(("images", 0, key) for key in ("id", "file_name", "width", "height", "crowdIndex")),
    *(("annotations", 0, key) for key in (
        "id", "image_id", "category_id", "bbox", "area", "keypoints", "iscrowd", "num_keypoints",
    )),
    *(("categories", 0, key) for key in ("id", "name", "keypoints", "skeleton")),
)  # fmt: skip
_RESULTS: tuple[tuple[Any, ...], ...] = (
    (0,), *((0, key) for key in ("image_id", "category_id", "keypoints", "score"))
)  # fmt: skip
_DETECTIONS: tuple[tuple[Any, ...], ...] = (
    (0,), *((0, key) for key in ("image_id", "category_id", "bbox", "score"))
)  # fmt: skip
_SKELETON: tuple[tuple[Any, ...], ...] = tuple(
    (key,) for key in ("joints", "limbs", "flip_pairs", "sigmas", "name")
)


@dataclass(frozen=True)
class Mutation:
    """Something that is changed before commands are run.

    Args:
        name: of it, unique.
        kind: annotations, results, detections, images, names, video, skeleton, checkpoint or
            override.
        write: changes the files of a folder that holds whole ones.
        neutral: it means nothing: all commands must give the same figures as without it.
        words: overrides that are added to the command named by ``command``.
        command: the only command to run; "": those of the kind.
    """

    name: str
    kind: str
    write: Write
    neutral: bool = False
    words: tuple[str, ...] = ()
    command: str = ""


def mutations(seed: int) -> list[Mutation]:
    """All of them, in an order drawn by the seed, the neutral ones among the others."""
    found = [
        *_fields("annotations", "a.json", _ANNOTATIONS, _ODD),
        *_fields("annotations", "a.json", _entries("bbox", 4), _NUMBERS),
        *_fields("annotations", "a.json", _entries("keypoints", 3), _NUMBERS),
        *_fields("results", "p.json", _RESULTS, _ODD),
        *_fields("results", "p.json", [(0, "keypoints", n) for n in (0, 2)], _NUMBERS),
        *_fields("detections", "d.json", _DETECTIONS, _ODD),
        *_fields("detections", "d.json", [(0, "bbox", n) for n in (0, 2)], _NUMBERS),
        *_fields("skeleton", "s.yaml", _SKELETON, _ODD),
        *(Mutation(f"{k}: {n}", k, w) for k, n, w in broken.files(seed)),
        *(Mutation(f"neutral {k}: {n}", k, w, neutral=True) for k, n, w in neutral.files()),
        *(Mutation(f"names: {n}", "names", w, neutral=True) for n, w in broken.names()),
        *(Mutation(f"{c} {w}", "override", _nothing, words=(w,), command=c) for c, w in _wrong()),
    ]
    random.Random(seed).shuffle(found)
    return found


def _entries(key: str, count: int) -> list[tuple[Any, ...]]:
    return [("annotations", 0, key, n) for n in range(count)]


def _fields(
    kind: str, file: str, paths: Sequence[tuple[Any, ...]], values: Sequence[Any]
) -> Iterator[Mutation]:
    """Each value in each place of a JSON file."""
    for path in paths:
        for value in values:
            if value is GONE and len(path) <= 2 and isinstance(path[-1], int):
                continue  # without one of its entries a list is another one, not a damaged one
            shown = "absent" if value is GONE else repr(value)
            where = ".".join(map(str, path))
            yield Mutation(f"{kind}: {where} = {shown}", kind, _setter(file, path, value))


def _setter(file: str, path: tuple[Any, ...], value: Any) -> Write:
    def write(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        node = data
        for key in path[:-1]:
            node = node[key]
        if value is not GONE:
            node[path[-1]] = copy.deepcopy(value)
        elif isinstance(node, list):
            node.pop(path[-1])
        else:
            node.pop(path[-1], None)
        (folder / file).write_text(json.dumps(data))

    return write


def _nothing(_: Path) -> None:
    """The files stay as they are."""


_WRONG_VALUES = ("null", "abc", "-1", "0", "1e400", "[]", "{}", "[1,2]", "''", "true", "../x")
_KEYS = {
    "train": (
        "trainer.max_epochs", "data.batch_size", "data.num_workers", "seed", "optimizer.lr",
        "codec.input_size", "name", "resume", "data.augmentation.scale", "logger", "backbone",
        "trainer.devices", "callbacks", "category", "start",
    ),
    "predict": ("batch_size", "threshold", "device", "boxes", "source", "out", "boxes_overlap"),
    "evaluate": ("predictions", "annotations", "protocol", "skeleton", "category", "out"),
    "doctor": ("annotations", "images", "skeleton", "open", "category", "json"),
    "convert": ("from", "source", "skeleton", "category"),
    "pack": ("split", "encoding", "quality", "size", "workers", "out", "category"),
}  # fmt: skip


def _wrong() -> Iterator[tuple[str, str]]:
    """Commands with one value of the wrong kind, or with a key that does not exist."""
    for command, keys in _KEYS.items():
        yield command, "no_such_key=1"
        yield command, "=1"
        for key in keys:
            yield from ((command, f"{key}={value}") for value in _WRONG_VALUES)
