"""Synthetic crowds in CrowdPose's own format, for where the real photographs cannot be had.

Labels: v = 2 visible; v = 1 hidden by another person or an object (a joint behind the person's own
body stays visible); v = 0 outside the picture.
"""

import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter
from rich.progress import track

from kdpose.data.synthetic.people import (
    Array,
    Figure,
    Part,
    draw_cloth,
    draw_colour,
    draw_figure,
    paint,
)
from kdpose.skeletons.known import CROWDPOSE

_FIRST_ID = 100_000  # CrowdPose's image ids have six digits
_CROWDING = ((0.0, 0.2), (0.2, 0.8), (0.8, 3.0))  # CrowdPose's easy, medium and hard
_SHARES = (0.4, 0.38, 0.22)  # how often each is aimed at
_PERSONS = ((1, 4), (3, 6), (4, 8))  # fewest and most persons of each
_SMOOTH = Image.Resampling.BICUBIC


def crowd_index(boxes: Array, joints: Array, labelled: Array) -> float:
    """CrowdPose's crowding of an image (Li et al., CVPR 2019).

    Mean over persons with joints of: others' joints in the person's box / the person's own joints.

    Args:
        boxes: ``(n, 4)`` as x1, y1, x2, y2.
        joints: ``(n, K, 2)``.
        labelled: ``(n, K)`` bool, the joints that count.
    """
    if not labelled.any():
        return 0.0
    low, high = boxes[:, None, None, :2], boxes[:, None, None, 2:]
    inside = ((joints >= low) & (joints <= high)).all(-1) & labelled  # (box, person, joint)
    count = inside.sum(-1)
    own = labelled.sum(-1)
    others = count.sum(1) - np.diag(count)
    return float((others[own > 0] / own[own > 0]).mean())


def _place(rng: Generator, size: tuple[int, int]) -> list[Figure]:
    """Persons on a loose ground line, far ones first, as crowded as a drawn class demands."""
    width, height = size
    kind = rng.choice(3, p=_SHARES)
    count = rng.integers(_PERSONS[kind][0], _PERSONS[kind][1] + 1)
    tall = height * rng.uniform(0.33, 0.78)
    talls = np.clip(np.sort(tall * rng.uniform(0.75, 1.25, count)), 0.29 * height, 0.83 * height)
    figures = [draw_figure(rng, t) for t in talls]
    bounds = np.array([figure.bounds() for figure in figures])
    joints = np.stack([figure.joints for figure in figures])
    frame = np.array([width, height, width, height]) - 1
    horizon, close = rng.uniform(0.15, 0.3) * height, 0.3 * (rng.random() < 0.15)
    for _ in range(40):
        spread = rng.uniform(0.08, 1.05)
        middle = rng.uniform(0.5 - (1 - spread) / 3, 0.5 + (1 - spread) / 3) if spread < 1 else 0.5
        x = middle + spread * ((rng.permutation(count) + rng.random(count)) / count - 0.5)
        y = horizon + talls * (0.9 + close) + rng.normal(0, 0.02 * height, count)
        y = np.minimum(y + 0.1 * height, (0.97 + 2 * close) * height)
        feet = np.stack((x * width, y), -1)
        placed = joints + feet[:, None]
        seen = np.all((placed >= 0) & (placed <= frame[:2]), -1)
        boxes = np.clip(bounds + np.tile(feet, 2), 0, frame)
        if _CROWDING[kind][0] <= crowd_index(boxes, placed, seen) < _CROWDING[kind][1]:
            break
    return [figure.moved(foot) for figure, foot in zip(figures, feet, strict=True)]


def _object(rng: Generator, size: tuple[int, int]) -> Part:
    """A pole, a bush or a crate."""
    width, height = size
    foot = np.array([rng.uniform(0, width), rng.uniform(0.75, 1.0) * height])
    kind = rng.integers(3)
    if kind == 0:
        ends = np.array([[foot, foot - [0, height]]])
        thickness = rng.uniform(0.012, 0.03)
    elif kind == 1:
        leaves = foot + rng.normal(0, 1, (14, 1, 2)) * [0.08, 0.06] * height - [0, 0.1 * height]
        ends, thickness = leaves.repeat(2, 1), 0.04
    else:
        half, rows = rng.uniform(0.05, 0.13) * width, np.arange(rng.integers(2, 7))
        ends = np.array([([-half, -r], [half, -r]) for r in rows * 0.04 * height]) + foot
        thickness = 0.035
    radii = np.full(ends.shape[:2], thickness * height)
    return Part(0.0, ends, radii, draw_cloth(rng, height))


def _stretch(planes: Array, size: tuple[int, int]) -> Array:
    """Resize ``(3, h, w)`` smoothly."""
    images = (Image.fromarray(plane.astype(np.float32)) for plane in planes)
    return np.stack([np.asarray(image.resize(size, _SMOOTH)) for image in images])


def _clouds(rng: Generator, size: tuple[int, int]) -> Array:
    """Smooth noise ``(H, W, 3)`` of several scales, more of brightness than of hue."""
    planes = np.zeros((3, 1, 1))
    for n in (3, 8, 24, 80):
        grain = rng.normal(0, 1, (n, n)) + rng.normal(0, 0.35, (3, n, n))
        planes = _stretch(planes, (n, n)) + rng.uniform(1, 10) * grain
    return _stretch(planes, size).transpose(1, 2, 0)


def _backdrop(rng: Generator, size: tuple[int, int], light: Array) -> Array:
    """A jumble ``(H, W, 3)``, sharp or blurred: gradients, noise, shapes and limb-like strokes."""
    height = size[1]
    ramp = np.linspace(0, 1, height)[:, None, None] ** rng.uniform(0.5, 2)
    far, near = draw_colour(rng), draw_colour(rng)
    canvas = far + (near - far) * ramp + _clouds(rng, size)
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 9)):
        centre, extent = rng.random(2) * size, rng.uniform(0.03, 0.3) * height
        corners = centre + rng.normal(0, 0.6, (rng.integers(3, 6), 2)) * extent
        if rng.random() < 0.5:  # upright, as built things are
            (left, top), (right, bottom) = corners[:2]
            corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        pen.polygon(corners.ravel().tolist(), fill=tuple(draw_colour(rng).astype(int).tolist()))
    canvas = np.array(picture, np.float32)
    for _ in range(rng.integers(0, 7)):
        start = rng.random(2) * size
        ends = np.array([[start, start + rng.normal(0, 0.12, 2) * height]])
        radii = rng.uniform(0.008, 0.04, (1, 2)) * height
        paint(canvas, Part(0.0, ends, radii, draw_cloth(rng, height / 2)), light)
    blur = ImageFilter.GaussianBlur(float(rng.choice([0.0, 0.7, 2.0])) * height / 240)
    return np.array(Image.fromarray(canvas.astype(np.uint8)).filter(blur), np.float32)


def _develop(rng: Generator, canvas: Array) -> Image.Image:
    """Uneven light, sensor noise and a lens that is not always sharp."""
    height, width = canvas.shape[:2]
    slope = rng.normal(0, 0.2, 2)
    across, along = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    gain = rng.uniform(0.75, 1.15) + slope[0] * across + slope[1] * along
    noise = rng.uniform(0, 7) * rng.standard_normal(canvas.shape, np.float32)
    pixels = (canvas * gain[..., None].astype(np.float32) + noise).clip(0, 255).astype(np.uint8)
    blur = ImageFilter.GaussianBlur(float(rng.choice([0.0, 0.5, 0.9])))
    return Image.fromarray(pixels).filter(blur)


def _render(
    rng: Generator, figures: list[Figure], size: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Paint a scene, far persons first, sometimes an object among them.

    Returns:
        The picture ``(H, W, 3)``; who owns each pixel ``(H, W)``: rank 2, 4, ... of the persons,
        odd ranks of objects, 0 for the backdrop; the persons' whole silhouettes ``(n, H, W)``.
    """
    light = rng.normal(0, 0.7, 2)
    canvas = _backdrop(rng, size, light)
    owner = np.zeros(canvas.shape[:2], np.uint8)
    shape = np.zeros((len(figures), *owner.shape), bool)
    gap = rng.integers(len(figures)) if rng.random() < 0.2 else -1
    for n, figure in enumerate(figures):
        for part in figure.parts:
            window, covered = paint(canvas, part, light)
            owner[window][covered] = 2 * n + 2
            shape[n][window] |= covered
        if n == gap:
            window, covered = paint(canvas, _object(rng, size), light)
            owner[window][covered] = 2 * n + 3
    return canvas, owner, shape


def _visibility(joints: Array, owner: Array, rank: int) -> Array:
    """COCO's v ``(14,)``: 0 outside, 1 where nearer things own most of 3 x 3 pixels, 2 seen."""
    height, width = owner.shape
    visible = np.zeros(len(joints), int)
    for k, (x, y) in enumerate(joints):
        if 0 <= x <= width - 1 and 0 <= y <= height - 1:
            row, column = round(y), round(x)
            around = owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            visible[k] = 1 if (around > rank).mean() > 0.5 else 2
    return visible


def _annotate(figure: Figure, owner: Array, shape: Array, rank: int) -> dict[str, Any] | None:
    """One person's entry, or None where hardly anything of the person is to be seen."""
    visible = _visibility(figure.joints, owner, rank)
    seen = int((owner == rank).sum())
    if (visible == 2).sum() < 4 and seen < max(0.1 * shape.sum(), 30):
        return None
    inside = np.concatenate((np.argwhere(shape)[:, ::-1], figure.joints[visible > 0]))
    low, high = np.floor(inside.min(0)).astype(int), np.ceil(inside.max(0)).astype(int) + 1
    points = np.where(visible[:, None] > 0, figure.joints.round(2), 0.0).tolist()
    labels = zip(points, visible.tolist(), strict=True)
    return {
        "num_keypoints": int((visible[:12] > 0).sum()),  # CrowdPose leaves out head and neck
        "iscrowd": 0,
        "keypoints": [number for point, v in labels for number in (*point, v)],
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "category_id": 1,
    }


def _make_image(index: int, seed: int, size: tuple[int, int], folder: Path) -> dict[str, Any]:
    """Write image ``index`` and return its entry, with the persons under ``persons``."""
    rng = np.random.default_rng([seed, index])
    figures = _place(rng, size)
    canvas, owner, shape = _render(rng, figures, size)
    number = _FIRST_ID + index
    name = f"{number:06d}.jpg"
    _develop(rng, canvas).save(folder / name, quality=int(rng.integers(55, 96)))
    entries = (_annotate(figure, owner, shape[n], 2 * n + 2) for n, figure in enumerate(figures))
    persons = [entry for entry in entries if entry is not None]
    points = np.array([p["keypoints"] for p in persons]).reshape(-1, len(CROWDPOSE), 3)
    boxes = np.array([p["bbox"] for p in persons]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "file_name": name,
        "id": number,
        "height": size[1],
        "width": size[0],
        "crowdIndex": round(crowd_index(boxes, points[..., :2], points[..., 2] > 0), 2),
        "persons": persons,
    }


def _write_annotations(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write one split in CrowdPose's format, persons numbered from 1."""
    persons = [{**p, "image_id": entry["id"]} for entry in entries for p in entry["persons"]]
    document = {
        "images": [{k: v for k, v in entry.items() if k != "persons"} for entry in entries],
        "annotations": [{**person, "id": n} for n, person in enumerate(persons, 1)],
        "categories": [CROWDPOSE.to_category()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def generate(
    root: str | Path,
    *,
    train: int = 2000,
    val: int = 300,
    seed: int = 0,
    workers: int = 2,
    image_size: tuple[int, int] = (320, 240),
) -> None:
    """Write a synthetic data set with CrowdPose's files; ``root`` appears only when complete.

    The result depends on every argument except ``workers``: each image has its own random
    generator. Workers are spawned: a script needs ``if __name__ == "__main__":`` around the call.

    Args:
        root: folder to create.
        train: images of the trainval split.
        val: images of the test split.
        seed: of everything drawn, not negative.
        workers: processes that draw.
        image_size: width and height, pixels.

    Raises:
        FileExistsError: ``root`` is there already; nothing is overwritten.
        ValueError: a count is below 1, the seed negative or a side shorter than 64 pixels.
    """
    root = Path(root).absolute()
    _check(root, train, val, seed, workers, image_size)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as temporary:
        built = Path(temporary) / root.name
        images = built / "images"
        images.mkdir(parents=True)
        make = partial(_make_image, seed=seed, size=image_size, folder=images)
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # torch may run threads
            drawn = pool.map(make, range(train + val), chunksize=8)
            entries = list(track(drawn, f"Drawing {root.name}", total=train + val))
        _write_annotations(built / "annotations" / "crowdpose_trainval.json", entries[:train])
        _write_annotations(built / "annotations" / "crowdpose_test.json", entries[train:])
        built.rename(root)


def _check(
    root: Path, train: int, val: int, seed: int, workers: int, image_size: tuple[int, int]
) -> None:
    """Refuse arguments that cannot give a data set."""
    if root.exists():
        raise FileExistsError(f"{root} exists: remove it or name another folder")
    if min(train, val, workers, seed + 1) < 1:
        got = f"{train}, {val}, {workers}, {seed}"
        raise ValueError(f"train, val and workers must be >= 1 and seed >= 0, got {got}")
    if min(image_size) < 64:
        raise ValueError(f"image_size must be at least (64, 64), got {image_size}")
