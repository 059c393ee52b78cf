"""Label Studio: the JSON export, whose coordinates are per cent of the image."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from kdpose.formats.persons import Person, Picture, coco_file, named_by_points, nearest
from kdpose.runtime.json_text import read_json
from kdpose.skeletons.skeleton import Skeleton

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # put before the name of a file that is uploaded
_KINDS = ("keypointlabels", "rectanglelabels")
_HIDDEN = ("occluded", "hidden")
_MORE = "annotations are further ones of a task and are left out: the first that counts is read"
_PREDICTED = "tasks have no annotation: their predictions are read"
_EMPTY = "tasks have neither annotation nor prediction and are left out"
_SIZELESS = "tasks have no regions, and their images are not there to be measured: left out"
_TURNED = "points and boxes are of images turned in Label Studio and are left out"
_OTHER = "regions are neither points nor rectangles and are left out"
Region = dict[str, Any]


def read(source: Path, images: Path | None, skeleton: Skeleton | None) -> dict[str, Any]:
    """Read an export.

    A person is a rectangle and the points whose ``parentID`` is the rectangle's id, or that a
    relation joins to it; a point without either belongs to the only rectangle that it lies in.
    Without rectangles, the points of an image are one person. A choice ``occluded`` or ``hidden``
    of a point sets v = 1.

    Args:
        source: the JSON of the export (not JSON-MIN).
        images: folder of the images; None: beside the file. File names are those of the tasks'
            URLs, without the eight letters that Label Studio puts before uploads if no file is
            called so.
        skeleton: joints and their order; None: the labels', see
            :func:`kdpose.formats.persons.named_by_points`.
    """
    tasks = read_json(source, "source")
    tasks = tasks if isinstance(tasks, list) else [tasks]
    if not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise ValueError(
            f"{source.absolute()} (from source) has a task without 'data': export as JSON, not "
            "JSON-MIN"
        )
    lost, pictures, folder = Counter[str](), list[Picture](), images or source.parent
    for task in tasks:
        regions = _regions(task, lost)
        shapes = [r for r in regions or () if r.get("type") in _KINDS]
        name = _name(task["data"], folder, source)
        if regions is None or not (shapes or (folder / name).is_file()):
            lost[_EMPTY if regions is None else _SIZELESS] += 1
            continue
        if not shapes:  # nobody is in it
            pictures.append(Picture(name, []))
            continue
        size = (int(shapes[0]["original_width"]), int(shapes[0]["original_height"]))
        where = f"{source.absolute()}: {name}"
        pictures.append(Picture(name, _persons(regions, size, lost, where), size))
    skeleton = skeleton or named_by_points(source, pictures, "labelstudio", lost)
    return coco_file(source, pictures, skeleton, images, lost)


def _regions(task: dict[str, Any], lost: Counter[str]) -> list[Region] | None:
    """What is drawn in a task: of its ground truth, else its first annotation or prediction.

    None where it has neither.
    """
    done = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    done = [a for a in done if a.get("ground_truth")] or done
    guessed = [p for p in task.get("predictions") or () if isinstance(p, dict)]
    if not done and guessed:
        lost[_PREDICTED] += 1
    lost[_MORE] += max(len(done) - 1, 0)
    if not (done or guessed):
        return None
    chosen = (done or guessed)[0]
    return [r for r in chosen.get("result") or () if isinstance(r, dict)]


def _name(data: dict[str, Any], folder: Path, source: Path) -> str:
    """The file name of a task's image."""
    texts = [v for k in ("image", "img", *data) if isinstance(v := data.get(k), str)]
    if not texts:
        raise ValueError(f"{source.absolute()} (from source) has a task whose data names no image")
    url = urlsplit(texts[0])
    local = parse_qs(url.query).get("d")
    path = PurePosixPath(unquote(local[0] if local else url.path).replace("\\", "/"))
    return nearest(str(path), folder) or _UPLOAD.sub("", path.name)


def _persons(
    regions: list[Region], size: tuple[int, int], lost: Counter[str], where: str
) -> list[Person]:
    """The persons of a task."""
    joined = [(r["from_id"], r["to_id"]) for r in regions if r.get("type") == "relation"]
    related = dict(joined) | {b: a for a, b in joined}
    hidden = {r.get("id") for r in regions if r.get("type") == "choices" and _says_hidden(r)}
    straight = [r for r in regions if not r.get("image_rotation")]
    boxes = {str(r["id"]): _box(r, size) for r in straight if r.get("type") == "rectanglelabels"}
    people = {key: Person({}, box) for key, box in boxes.items()}
    lost[_TURNED] += sum(bool(r.get("image_rotation")) for r in regions if r.get("type") in _KINDS)
    lost[_OTHER] += sum(r.get("type") not in (*_KINDS, "relation", "choices") for r in regions)
    for region in (r for r in straight if r.get("type") == "keypointlabels"):
        value = region["value"]
        x, y = float(value["x"]) * size[0] / 100, float(value["y"]) * size[1] / 100
        key = str(region.get("parentID") or related.get(region.get("id")) or "")
        if key not in boxes:
            around = [k for k, box in boxes.items() if _inside(x, y, box)]
            key = around[0] if len(around) == 1 else key
        person = people.setdefault(key, Person())
        label = str(value["keypointlabels"][0]).strip()
        if label in person.points:
            raise ValueError(
                f"{where}: a person has two '{label}': draw a rectangle around each person and "
                "make it the parent of its points"
            )
        person.points[label] = (x, y, 1.0 if region.get("id") in hidden else 2.0)
    return list(people.values())


def _says_hidden(region: Region) -> bool:
    choices = region.get("value", {}).get("choices") or ()
    return any(str(choice).lower() in _HIDDEN for choice in choices)


def _box(region: Region, size: tuple[int, int]) -> list[float]:
    value = region["value"]
    keys = ("x", "y", "width", "height")
    return [float(value[key]) * size[k % 2] / 100 for k, key in enumerate(keys)]


def _inside(x: float, y: float, box: list[float]) -> bool:
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
