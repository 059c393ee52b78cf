"""A contact sheet of persons with their labels drawn, left and right in different colours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid

from kdpose.checks.findings import Finding
from kdpose.checks.split import Split
from kdpose.data.sources.images import read_image
from kdpose.display.drawing import labelled, save_jpeg
from kdpose.skeletons.skeleton import Skeleton

_TILE = (192, 256)  # width and height, pixels
_MARGIN = 1.3  # of the box
_WORTH_A_LOOK = ("crossed_limbs",)  # though a note
LEFT, RIGHT, MIDDLE = "#ff924c", "#1982c4", "#8ac926"


class Tile(NamedTuple):
    """A person to show: the row in its split, and why."""

    split: str
    row: int
    why: str


def choose(
    findings: Sequence[Finding], splits: Mapping[str, Split], columns: int, seed: int = 0
) -> list[Tile]:
    """The examples of all findings on persons, then random persons to fill two rows."""
    tiles = [
        Tile(finding.split, example.row, finding.kind)
        for finding in findings
        for example in finding.examples
        if example.row is not None and (finding.severity != "note" or finding.kind in _WORTH_A_LOOK)
    ]
    rng = np.random.default_rng(seed)
    for name, split in splits.items():
        rows = np.flatnonzero(split.labelled)
        drawn = rng.permutation(rows)[: 2 * columns // len(splits)]
        tiles += [Tile(name, int(row), "at random") for row in drawn]
    return list(dict.fromkeys(tiles))


def write_sheet(
    path: Path,
    tiles: Sequence[Tile],
    splits: Mapping[str, Split],
    folders: Mapping[str, str | None],
    columns: int = 8,
) -> int:
    """Draw persons and write them as one JPEG, except those whose image cannot be read.

    Returns:
        The number of persons on the sheet; no file is written if it is 0.
    """
    pictures = []
    for tile in tiles:
        split, folder = splits[tile.split], folders[tile.split]
        if folder is None:
            continue
        image = split.images[split.image[tile.row]]
        name, size = image["file_name"], (round(image["width"]), round(image["height"]))
        try:
            pixels = read_image(Path(folder) / name, size=size)
        except (FileNotFoundError, ValueError):
            continue
        picture = pil_to_tensor(draw_person(pixels, split, tile.row))
        number = split.persons[tile.row].get("id")
        pictures.append(labelled(picture, f"{tile.why} {tile.split} {number}", height=18))
    if not pictures:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = make_grid(pictures, nrow=columns, padding=4, pad_value=255)
    save_jpeg(grid.to(torch.uint8), path, quality=88)
    return len(pictures)


def draw_person(pixels: np.ndarray, split: Split, row: int) -> Image.Image:
    """A person's box with some margin: left limbs orange, right blue, others green.

    Hidden joints (v = 1) are rings, visible ones discs.
    """
    width, height = _TILE
    centre = split.box[row, :2] + split.box[row, 2:] / 2
    scale = _MARGIN * max(split.box[row, 2] / width, split.box[row, 3] / height, 4 / height)
    corner = centre - scale * np.array(_TILE) / 2
    bounds = (*corner, *(corner + scale * np.array(_TILE)))
    image = Image.fromarray(pixels).transform(
        _TILE, Image.Transform.EXTENT, bounds, Image.Resampling.BILINEAR
    )
    pen = ImageDraw.Draw(image)
    points = (split.joints[row] - corner) / scale
    known = split.visible[row] > 0
    near, far = (split.box[row, :2] - corner) / scale, split.box[row, 2:] / scale
    pen.rectangle((*near, *(near + np.maximum(far, 0))), outline="white")
    colors = side_colors(split.skeleton)
    for a, b in split.skeleton.limbs:
        if known[a] and known[b]:
            color = colors[a] if colors[a] != MIDDLE else colors[b]
            color = color if colors[a] == colors[b] or MIDDLE in (colors[a], colors[b]) else MIDDLE
            pen.line((*points[a], *points[b]), fill=color, width=2)
    for k in np.flatnonzero(known):
        x, y = points[k]
        fill = colors[k] if split.visible[row, k] == 2 else None
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=fill, outline=colors[k])
    return image


def side_colors(skeleton: Skeleton) -> list[str]:
    """A colour for each joint by its side."""
    colors = [MIDDLE] * len(skeleton)
    for left, right in skeleton.sides:
        colors[left], colors[right] = LEFT, RIGHT
    return colors
