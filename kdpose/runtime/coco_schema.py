"""What the entries of COCO files must be, and what is made of those that nearly are.

One schema for annotations, detections and results, wherever they are read. A field that is
absent, null or empty is the same. Whole numbers may be written as ``7.0`` or ``"7"``, keypoints
may be nested, and ``v`` may be a confidence. What can be derived is derived and noted; everything
else is a :class:`Misfit`, which names the field.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from kdpose.runtime.image_header import stored_size

LABELLED_FROM = 0.5  # a confidence in the place of v
_LARGEST = 1e7  # pixels: beyond, a coordinate is no longer one
_MARGIN = 0.1  # of the joints' extent, around joints without a box
_FLAGS = frozenset((0, 1, 2))
_READ = frozenset(
    ["id", "category_id", "bbox", "area", "num_keypoints", "iscrowd", "keypoints", "score"]
)
Entry = dict[str, Any]
Notes = Counter[str]

# what is noted, and said once for each file
IDS = "ids are written as text or with a fraction: read as whole numbers"
SIZES = "images have no width and height: taken from the image files"
BOXES = "persons have no bbox: derived from their joints, as `kdpose convert from=coco` writes them"
CONFIDENCES = (
    f"joints have a confidence as v: labelled (v = 2) from {LABELLED_FROM} on, else not labelled"
)
NESTED = "persons have nested keypoints: read as x, y, v, x, y, v, ..."
GAPS = "joints have no coordinates: read as not labelled"
STRAYS = "annotations are of images that the file does not list, and are left out"


class Misfit(ValueError):
    """A field that cannot be used."""


def whole(entry: Mapping[str, Any], key: str, notes: Notes) -> int:
    """A whole number, which an id is.

    Raises:
        Misfit: it is absent or something else.
    """
    value = entry.get(key)
    number = value
    if (isinstance(value, str) and value.strip().removeprefix("-").isdecimal()) or (
        isinstance(value, float) and value.is_integer()
    ):
        number = int(value)
    if type(number) is not int or abs(number) >= 2**63:
        if empty(value):
            raise Misfit(f"has no {key}")
        raise Misfit(f"has {key} {shown(value)}: ids must be whole numbers, so renumber them")
    notes[IDS] += number is not value
    return number


def _without_empty(entry: Entry) -> Entry:
    return {k: v for k, v in entry.items() if v is not None and not (k in _READ and empty(v))}


def empty(value: Any) -> bool:
    """Whether a field says nothing: it is absent, null, or an empty list or text."""
    return value is None or value == "" or value == [] or value == {}


def numbers(values: Any, count: int | None = None) -> bool:
    """Whether these are finite numbers, of a given count."""
    return (
        isinstance(values, list | tuple)
        and (count is None or len(values) == count)
        and all(type(v) in (int, float) and isfinite(v) and abs(v) <= _LARGEST for v in values)
    )


def shown(value: Any) -> str:
    """A value in an error message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def image_entry(image: Any, folder: Path | None, notes: Notes, pictured: bool = True) -> Entry:
    """An image with ``id``, ``file_name``, ``width`` and ``height``.

    Args:
        image: of a file.
        folder: of the image files, for sizes that the entry lacks.
        notes: what was derived is counted here.
        pictured: its file will be read; else an ``id`` is enough.

    Raises:
        Misfit: see there.
    """
    if not isinstance(image, dict):
        raise Misfit("is not an object")
    known = {key: value for key, value in image.items() if value is not None}
    known["id"] = whole(image, "id", notes)
    if "crowdIndex" in known and not numbers([known["crowdIndex"]]):
        raise Misfit(f"has crowdIndex {shown(known['crowdIndex'])}, which must be a number")
    if not pictured:
        return known
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        said = "no file_name" if empty(name) else f"file_name {shown(name)}"
        raise Misfit(f"has {said}: write the image's path in the folder of images")
    size: list[Any] = [image.get("width"), image.get("height")]
    if any(empty(side) or side == 0 for side in size):
        size = list(_measured(name, folder))
        known["width"], known["height"] = size
        notes[SIZES] += 1
    if not numbers(size) or min(size) <= 0:
        raise Misfit(f"measures {shown(size[0])} x {shown(size[1])}")
    return known


def _measured(name: str, folder: Path | None) -> tuple[int, int]:
    way = "`kdpose convert from=coco source=FILE images=FOLDER out=NEW` writes them"
    if folder is None:
        raise Misfit(f"({shown(name)}) has no width and height: {way}")
    try:
        return stored_size(folder / name)
    except OSError as error:
        raise Misfit(f"has no width and height, and {error}") from None


def person_entry(person: Any, sizes: Mapping[int, tuple[float, float]], notes: Notes) -> Entry:
    """A person whose ``bbox``, ``keypoints``, ``area``, ``iscrowd`` are in full or not at all.

    Args:
        person: of a file.
        sizes: width and height of each image, by id, inside which boxes are derived; infinite
            where unknown.
        notes: what was derived is counted here.

    Raises:
        Misfit: see there.
    """
    if not isinstance(person, dict):
        raise Misfit("is not an object")
    known = _without_empty(person)
    known["image_id"] = whole(person, "image_id", notes)
    for key in ("id", "category_id"):
        if type(known.get(key)) in (int, float):
            known[key] = whole(known, key, notes)
        if key in known and not isinstance(known[key], int | str):
            raise Misfit(f"has {key} {shown(known[key])}, which must be a whole number")
    if "bbox" in known and not numbers(known["bbox"], 4):
        raise Misfit(f"must have bbox [x, y, width, height], has {shown(known['bbox'])}")
    for key in ("area", "num_keypoints"):
        if key in known and not (_is_number(known[key]) and abs(known[key]) <= _LARGEST**2):
            raise Misfit(f"has {key} {shown(known[key])}, which must be a number")
    if not isinstance(known.get("iscrowd", False), bool) and not _is_number(known["iscrowd"]):
        raise Misfit(f"has iscrowd {shown(known['iscrowd'])}, which must be 0 or 1")
    if "keypoints" in known:
        _mend_keypoints(known, notes)
    size = sizes.get(known["image_id"])
    notes[STRAYS] += size is None
    if "bbox" not in known and size is not None and any(known.get("keypoints", ())[2::3]):
        known["bbox"] = box_around(known["keypoints"], size)
        notes[BOXES] += 1
    return known


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value)


def _mend_keypoints(person: Entry, notes: Notes) -> None:
    """Make ``keypoints`` a flat list of finite x, y, v."""
    keypoints = person["keypoints"]
    if _is_flat(keypoints):
        return
    if isinstance(keypoints, list) and all(isinstance(k, list) and len(k) == 3 for k in keypoints):
        keypoints = [value for joint in keypoints for value in joint]
        notes[NESTED] += 1
    if not isinstance(keypoints, list) or len(keypoints) % 3:
        raise Misfit("must have finite keypoints [x, y, v, ...]")
    if any(type(v) is float and 0 < v < 1 for v in keypoints[2::3]):
        keypoints = _labelled(keypoints, notes)
    triples = zip(keypoints[::3], keypoints[1::3], keypoints[2::3], strict=True)
    joints = [_joint(x, y, v, notes) for x, y, v in triples]
    person["keypoints"] = [value for joint in joints for value in joint]
    if "num_keypoints" in person:  # which may leave out some, as CrowdPose's does
        labelled = sum(v > 0 for _, _, v in joints)
        person["num_keypoints"] = min(person["num_keypoints"], labelled)


def _is_flat(keypoints: Any) -> bool:
    """Whether these are in order as they are, which nearly all are: so this is quick."""
    try:
        usual = len(keypoints) % 3 == 0 and _FLAGS.issuperset(keypoints[2::3])
        finite = usual and isfinite(sum(keypoints))
        return finite and min(keypoints) >= -_LARGEST and max(keypoints) <= _LARGEST
    except TypeError:
        return False


def _joint(x: Any, y: Any, v: Any, notes: Notes) -> tuple[float, float, float]:
    if v is None or not numbers([x, y]):
        if all(
            value is None or (isinstance(value, float) and not isfinite(value)) for value in (x, y)
        ):
            notes[GAPS] += 1
            return 0, 0, 0
        raise Misfit(f"must have finite keypoints [x, y, v, ...], has {shown([x, y, v])}")
    if not numbers([v]) or v < 0:
        raise Misfit(f"has a joint with v = {shown(v)}: v is 0 (not labelled), 1 or 2")
    return x, y, v


def _labelled(keypoints: list[Any], notes: Notes) -> list[Any]:
    """Keypoints whose v is a confidence, with a v of 2 or 0."""
    found = list(keypoints)
    for k in range(2, len(found), 3):
        if numbers([found[k]]) and 0 < found[k] <= 1:
            notes[CONFIDENCES] += 1
            found[k] = 2 if found[k] >= LABELLED_FROM else 0
    return found


def box_around(keypoints: Sequence[float], size: tuple[float, float]) -> list[float]:
    """A box x, y, width, height around labelled joints plus a tenth, inside the image.

    Args:
        keypoints: x, y, v of each joint, image pixels, one of them labelled.
        size: width and height of the image.
    """
    triples = zip(keypoints[::3], keypoints[1::3], keypoints[2::3], strict=True)
    known = [(x, y) for x, y, v in triples if v > 0]
    xs, ys = zip(*known, strict=True)
    if max(xs) > size[0] or max(ys) > size[1]:  # swapped, as will be seen by the boxes
        size = (max(size), max(size))
    reach = _MARGIN * max(max(xs) - min(xs), max(ys) - min(ys)) + 1
    left, top = max(min(xs) - reach, 0), max(min(ys) - reach, 0)
    right, bottom = min(max(xs) + reach, size[0]), min(max(ys) + reach, size[1])
    return [round(value, 2) for value in (left, top, right - left, bottom - top)]


def result_entry(result: Any, notes: Notes, scored: bool = True) -> Entry:
    """A pose that was found: ``image_id``, ``keypoints``, ``score``, and a ``bbox`` or none.

    Args:
        result: of a file.
        notes: what was mended is counted here.
        scored: it must have a score.

    Raises:
        Misfit: a field is missing or not finite, which would count as a perfect match.
    """
    if not isinstance(result, dict):
        raise Misfit("is not an object")
    known = _without_empty(result)
    wanted = ("image_id", "keypoints", "score")[: 3 if scored else 1]
    if lacking := [key for key in wanted if key not in result]:
        raise Misfit(f"lacks {lacking}: it has {sorted(map(str, result))[:8]}")
    known["image_id"] = whole(result, "image_id", notes)
    keypoints = known.get("keypoints")
    if isinstance(keypoints, list) and all(isinstance(k, list) and len(k) == 3 for k in keypoints):
        keypoints = known["keypoints"] = [value for joint in keypoints for value in joint]
        notes[NESTED] += 1
    if not isinstance(keypoints, list) or len(keypoints) % 3 or not numbers(keypoints):
        said = "no keypoints" if empty(keypoints) else "keypoints that are not"
        raise Misfit(f"has {said} finite x, y, score of each joint")
    if (scored or "score" in known) and not _is_number(known.get("score")):
        raise Misfit(f"has score {shown(known.get('score'))}, which must be a finite number")
    if "bbox" in known and not numbers(known["bbox"], 4):
        raise Misfit(f"must have bbox [x, y, width, height], has {shown(known['bbox'])}")
    if "category_id" in known:
        known["category_id"] = whole(known, "category_id", notes)
    return known
