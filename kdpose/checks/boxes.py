"""Boxes and joints against their image."""

from collections.abc import Iterator

import numpy as np

from kdpose.checks.findings import Example, Finding, Severity, first, graded
from kdpose.checks.split import Split
from kdpose.data.boxes import are_corners
from kdpose.data.boxes import swapped_sizes as sizes_are_swapped

_SLACK = 1.0  # pixel: files round
_MANY = 0.2  # of the persons
_FAR = 0.5  # of the box's longer side


def _text(box: np.ndarray) -> str:
    return f"box {[round(float(value), 1) for value in box]}"


def without_area(split: Split) -> Iterator[Finding]:
    """Boxes without width or height."""
    rows = np.flatnonzero((split.box[:, 2:] <= 0).any(axis=1) & split.labelled)
    if rows.size:
        shown = first(split.example(row, _text(split.box[row])) for row in rows)
        message = "labelled persons have a box without area and are ignored"
        severity = graded(len(rows), int(split.labelled.sum()))
        yield Finding("box_without_area", severity, len(rows), message, shown)


def outside(split: Split) -> Iterator[Finding]:
    """Boxes completely or partly outside their image, except those explained by a swapped size."""
    near, far = split.box[:, :2], split.box[:, :2] + split.box[:, 2:]
    counted = split.labelled & (split.box[:, 2:] > 0).all(axis=1)
    total = int(counted.sum())
    gone = counted & ((near >= split.size) | (far <= 0)).any(axis=1)
    part = counted & ~gone & ((near < -_SLACK) | (far > split.size + _SLACK)).any(axis=1)
    sized = ~np.isin(split.image, sorted(swapped_images(split)))
    part &= sized
    if gone.any():
        rows = np.flatnonzero(gone)
        shown = first(_with_size(split, rows))
        message = "labelled persons have a box outside their image and are ignored"
        yield Finding("box_outside", graded(len(rows), total), len(rows), message, shown)
    if part.any():
        rows = np.flatnonzero(part)
        message = "boxes extend beyond their image and are clipped"
        kind = "box_over_edge"
        severity: Severity = "warning" if len(rows) > _MANY * total else "note"
        if are_corners(split.box[counted & sized], split.size[counted & sized]):
            message = "boxes look like x1, y1, x2, y2: write them as x, y, width, height"
            kind, severity = "box_format", "error"
        yield Finding(kind, severity, len(rows), message, first(_with_size(split, rows)))


def _with_size(split: Split, rows: np.ndarray) -> Iterator[Example]:
    for row in rows:
        width, height = split.size[row]
        yield split.example(row, f"{_text(split.box[row])} in {width:g} x {height:g}")


def swapped_images(split: Split) -> set[int]:
    """Rows of images whose boxes all fit only with width and height exchanged."""
    size = np.array([(i["width"], i["height"]) for i in split.images], float).reshape(-1, 2)
    return set(np.flatnonzero(sizes_are_swapped(size, split.image, split.box)).tolist())


def swapped_sizes(split: Split) -> Iterator[Finding]:
    """Width and height exchanged, as in some releases of CrowdPose; training fixes it."""
    swapped = swapped_images(split)
    if swapped:
        persons = np.flatnonzero(np.isin(split.image, sorted(swapped)))
        shown = first(_with_size(split, persons))
        message = "images have width and height swapped, as their boxes show; fixed on load"
        yield Finding("swapped_size", "warning", len(swapped), message, shown)


def fractions(split: Split) -> Iterator[Finding]:
    """Coordinates as fractions of the image, as in YOLO."""
    rows = np.flatnonzero(split.labelled)
    if not rows.size:
        return
    small = np.abs(split.joints[rows]).reshape(len(rows), -1).max(axis=1) <= 1.5
    if np.mean(small) > 0.5:
        shown = first(
            split.example(row, f"joints {split.joints[row, 0]}")
            for row in rows[np.flatnonzero(small)]
        )
        message = "persons' joints look like fractions of the image: write them in pixels"
        yield Finding("fractions", "error", int(np.count_nonzero(small)), message, shown)


def stray_joints(split: Split) -> Iterator[Finding]:
    """Labelled joints outside the image, or far from their person's box."""
    labelled = (split.visible != 0) & split.labelled[:, None]
    size = np.where(
        np.isin(split.image, sorted(swapped_images(split)))[:, None],
        split.size[:, ::-1],
        split.size,
    )[:, None]
    beyond = ((split.joints < -_SLACK) | (split.joints > size + _SLACK)).any(-1) & labelled
    near = split.box[:, None, :2]
    reach = _FAR * split.box[:, 2:].max(axis=1, initial=0)[:, None, None]
    low, high = near - reach, near + split.box[:, None, 2:] + reach
    has_box = (split.box[:, 2:] > 0).all(axis=1, keepdims=True)
    away = ((split.joints < low) | (split.joints > high)).any(-1) & labelled & ~beyond & has_box
    strays = [
        ("joint_outside_image", "outside the image", beyond),
        ("joint_far_from_box", "more than half a box away from their person's box", away),
    ]
    for kind, where, found in strays:
        rows = np.flatnonzero(found.any(axis=1))
        if rows.size:
            shown = (
                split.example(row, f"joint {k} at {split.joints[row, k].round(1).tolist()}")
                for row in rows
                for k in np.flatnonzero(found[row])[:1]
            )
            severity = graded(len(rows), int(split.labelled.sum()))
            message = f"persons have labelled joints {where}"
            yield Finding(kind, severity, len(rows), message, first(shown))
