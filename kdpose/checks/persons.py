"""Persons, their ids and their labels."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from kdpose.checks.findings import Example, Finding, Severity, first, graded
from kdpose.checks.split import Split
from kdpose.skeletons.skeleton import Skeleton


def unlabelled(split: Split) -> Iterator[Finding]:
    """Persons without a labelled joint, which training ignores unless a teacher knows them."""
    if split.persons and split.boxes_alone:
        message = (
            "persons have boxes alone: they train under a teacher that says their joints "
            "(teacher=onnx, huggingface, keypoint_rcnn or poses), and not without"
        )
        yield Finding("boxes_alone", "warning", len(split.persons), message)
        return
    if not split.labelled.any():
        message = f"none of {len(split.persons)} persons has a labelled joint in a known image"
        yield Finding("no_persons", "unusable", len(split.persons), message)
        return
    rows = np.flatnonzero((split.visible == 0).all(axis=1) & ~split.crowd)
    if rows.size:
        shown = first(split.example(row, "no joint has v > 0") for row in rows)
        message = f"of {len(split.persons)} persons have no labelled joint and are ignored"
        yield Finding("no_joints", "note", len(rows), message, shown)


def unknown_images(split: Split) -> Iterator[Finding]:
    """Annotations of images that the file does not list."""
    known = {image["id"] for image in split.images}
    persons = split.data["annotations"]
    lost = [p for p in persons if p["image_id"] not in known]
    if lost:
        shown = (
            Example(f"image_id {p['image_id']} is not listed", None, p.get("id")) for p in lost
        )
        message = "annotations refer to images that the file does not list, and are ignored"
        severity = graded(len(lost), len(persons))
        yield Finding("unknown_image", severity, len(lost), message, first(shown))


def duplicate_ids(split: Split) -> Iterator[Finding]:
    """Duplicate ids, which assign persons to the wrong image."""
    images = _repeated(image["id"] for image in split.images)
    if images:
        message = "image ids are not unique, so persons get the wrong image: renumber them"
        shown = first(Example(f"id {number} is given {n} times") for number, n in images)
        yield Finding("duplicate_image_id", "error", len(images), message, shown)
    persons = _repeated(p["id"] for p in split.persons if p.get("id") is not None)
    if persons:
        message = "annotation ids are not unique; COCO's own tools keep one of each"
        shown = first(Example(f"id {number} is given {n} times") for number, n in persons)
        yield Finding("duplicate_person_id", "warning", len(persons), message, shown)
    files = _repeated(str(image["file_name"]) for image in split.images)
    if files:
        message = "file names are listed more than once"
        shown = first(Example(f"listed {n} times", name) for name, n in files)
        yield Finding("duplicate_file_name", "warning", len(files), message, shown)


def _repeated(values: Iterator[object]) -> list[tuple[str, int]]:
    return [(str(value), n) for value, n in Counter(values).items() if n > 1]


def duplicate_persons(split: Split) -> Iterator[Finding]:
    """The same pose twice in one image: it counts double, and one copy is never matched."""
    rows = np.flatnonzero(split.labelled)
    seen: dict[tuple[int, bytes], int] = {}
    twice = []
    for row in rows.tolist():
        key = (int(split.image[row]), split.joints[row].tobytes())
        if seen.setdefault(key, row) != row:
            twice.append((row, seen[key]))
    if twice:
        shown = (
            split.example(a, f"has the joints of person {split.persons[b].get('id')}")
            for a, b in twice
        )
        message = "persons have the same joints as another person of their image"
        severity = graded(len(twice), len(rows))
        yield Finding("duplicate_person", severity, len(twice), message, first(shown))


def flags(split: Split) -> Iterator[Finding]:
    """Visibilities that COCO does not define; all except 0 are trained as labels."""
    rows = np.flatnonzero(~np.isin(split.visible, (0, 1, 2)).all(axis=1))
    if rows.size:
        shown = (
            split.example(row, f"v = {sorted(set(split.visible[row].tolist()))}") for row in rows
        )
        message = "persons have a v other than 0 (not labelled), 1 (hidden) and 2 (visible)"
        yield Finding("visibility", "error", len(rows), message, first(shown))


def joint_counts(split: Split) -> Iterator[Finding]:
    """``num_keypoints`` that differs: CrowdPose excludes head and neck, others are mistakes."""
    rows = np.flatnonzero(~split.crowd)
    said = np.array([split.persons[row].get("num_keypoints", -1) for row in rows])
    real = (split.visible[rows] > 0).sum(axis=1)
    off = (said >= 0) & (said != real)
    if off.any():
        shown = (
            split.example(rows[i], f"num_keypoints {said[i]}, labelled {real[i]}")
            for i in np.flatnonzero(off)
        )
        message = "persons' num_keypoints differs from the number of their labelled joints"
        hidden = (said == 0) & (real > 0)
        if hidden.any():
            message += f"; {hidden.sum()} are 0, and those persons are ignored by AP"
        severity: Severity = "error" if hidden.sum() > 0.5 * len(rows) else "note"
        yield Finding("num_keypoints", severity, int(off.sum()), message, first(shown))


def areas(split: Split) -> Iterator[Finding]:
    """OKS divides by the person's area."""
    rows = np.flatnonzero(split.labelled)
    given = [split.persons[row].get("area") for row in rows]
    missing = [row for row, area in zip(rows, given, strict=True) if area is None]
    if missing:
        shown = first(split.example(row, "") for row in missing)
        message = "persons have no 'area': COCO's AP uses 0.53 of the box, as CrowdPose's does"
        yield Finding("no_area", "note", len(missing), message, shown)
    empty = [row for row, a in zip(rows, given, strict=True) if a is not None and not a > 0]
    if empty:
        shown = first(split.example(row, f"area {split.persons[row]['area']}") for row in empty)
        message = "persons have an area of 0 and are ignored"
        severity = graded(len(empty), len(rows))
        yield Finding("zero_area", severity, len(empty), message, shown)


def unused_joints(split: Split, skeleton: Skeleton) -> Iterator[Finding]:
    """Joints that are never labelled."""
    count = (split.visible[split.labelled] > 0).sum(axis=0)
    never = [joint for joint, n in zip(skeleton.joints, count, strict=True) if n == 0]
    if never and split.labelled.any():
        message = "joints of the skeleton are never labelled and are not learned"
        shown = first(Example(joint) for joint in never)
        yield Finding("unused_joint", "warning", len(never), message, shown)
