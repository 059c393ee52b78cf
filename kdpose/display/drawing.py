"""Poses drawn on images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor
from torchvision.io import encode_jpeg
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes, make_grid

from kdpose.skeletons.skeleton import Skeleton

PERSON_COLORS = (
    "#ff595e", "#1982c4", "#8ac926", "#ffca3a", "#b07bff", "#ff924c", "#36d6c3", "#f06ab5",
)  # fmt: skip


def draw_poses(
    image: Tensor,
    joints: Tensor,
    scores: Tensor,
    skeleton: Skeleton,
    threshold: float = 0.0,
    colors: Sequence[str] = PERSON_COLORS,
) -> Tensor:
    """Draw one skeleton per person, each in its own colour: left limbs lighter, right ones darker.

    Line widths scale with the person's size.

    Args:
        image: ``(3, H, W)`` uint8 RGB.
        joints: ``(P, K, 2)`` of P persons, image pixels.
        scores: ``(P, K)``.
        skeleton: of the persons.
        threshold: joints with a lower score are not drawn.
        colors: used in turn.

    Returns:
        ``(3, H, W)`` uint8, a new tensor.
    """
    canvas = to_pil_image(image.cpu())
    pen = ImageDraw.Draw(canvas)
    sides = [0] * len(skeleton)  # of the joints: 0 the middle, 1 left, 2 right
    for left, right in skeleton.sides:
        sides[left], sides[right] = 1, 2
    for index, (pose, score) in enumerate(zip(joints, scores, strict=True)):
        seen, shades = score >= threshold, _shades(colors[index % len(colors)])
        width, reach = _pen_size(pose[seen], image.shape[-2:])
        points = {k: tuple(pose[k].tolist()) for k in seen.nonzero().flatten().tolist()}
        for a, b in skeleton.limbs:
            if a in points and b in points:
                shade = shades[sides[a] if sides[a] == sides[b] else 0]
                pen.line((points[a], points[b]), fill=shade, width=width)
        for k, (x, y) in points.items():
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=shades[sides[k]])
    drawn: Tensor = pil_to_tensor(canvas)
    return drawn


def _shades(color: str) -> tuple[tuple[int, ...], ...]:
    """The colour of a person's middle, and its tint and shade for left and right."""
    own = ImageColor.getrgb(color)
    tint = tuple(round(255 - 0.5 * (255 - value)) for value in own)
    return own, tint, tuple(round(0.6 * value) for value in own)


def _pen_size(pose: Tensor, size: Sequence[int]) -> tuple[int, int]:
    """Width of a person's limbs and radius of its joints ``(n, 2)``, pixels.

    They scale with the longer side of the joints' extent; joints outside the picture ``size``
    count as if on its border.
    """
    if not len(pose):
        return 1, 1
    inside = pose.clamp(min=0).minimum(pose.new_tensor([size[1], size[0]]))
    span = float((inside.amax(0) - inside.amin(0)).max())
    return max(1, round(span / 90)), max(1, round(span / 70))


def draw_boxes(image: Tensor, boxes: Tensor, colors: Sequence[str] = PERSON_COLORS) -> Tensor:
    """Draw each person's box in the person's colour.

    Args:
        image: ``(3, H, W)`` uint8 RGB.
        boxes: ``(P, 4)`` x, y, width, height, image pixels.
        colors: used in turn.

    Returns:
        ``(3, H, W)`` uint8, a new tensor.
    """
    height, width = image.shape[-2:]
    chosen = [colors[i % len(colors)] for i in range(len(boxes))]
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    corners = corners.minimum(corners.new_tensor([width - 1, height - 1] * 2)).clamp(min=0)
    unit = max(1, round(min(height, width) / 320))
    return draw_bounding_boxes(image.cpu(), corners, colors=chosen, width=unit)


def pose_grid(
    crops: Tensor, poses: Sequence[Tensor], skeleton: Skeleton, columns: int = 8
) -> Tensor:
    """Crops side by side with one or more poses each.

    Args:
        crops: ``(B, 3, H, W)`` uint8.
        poses: alternatives ``(B, K, 2)`` in crop pixels, each in its own colour.
        skeleton: of the poses.
        columns: crops per row.

    Returns:
        ``(3, h, w)`` uint8.
    """
    factor = max(1, round(256 / crops.shape[-2]))  # small crops are enlarged for drawing
    large = crops.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    drawn = [
        draw_poses(
            crop,
            torch.stack([pose[i] for pose in poses]) * factor,
            torch.ones(len(poses), len(skeleton)),
            skeleton,
        )
        for i, crop in enumerate(large.cpu())
    ]
    grid: Tensor = make_grid(drawn, nrow=columns, padding=4, pad_value=255)
    return grid


def labelled(picture: Tensor, text: str, height: int = 22) -> Tensor:
    """A picture ``(3, H, W)`` uint8 under a white caption."""
    strip = Image.new("RGB", (picture.shape[-1], height), "white")
    font = ImageFont.load_default(size=0.7 * height)
    ImageDraw.Draw(strip).text((4, height / 2), text, fill="black", font=font, anchor="lm")
    return torch.cat([pil_to_tensor(strip), picture.cpu()], dim=-2)


def side_by_side(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures ``(H, W, 3)`` of one size in a row, each under its name."""
    named = [
        labelled(torch.from_numpy(picture).permute(2, 0, 1), name, max(22, picture.shape[0] // 20))
        for name, picture in pictures.items()
    ]
    return torch.cat(named, dim=-1).permute(1, 2, 0).numpy()


def save_jpeg(picture: Tensor, path: Path, quality: int) -> None:
    """Write a picture ``(3, H, W)`` uint8.

    Raises:
        OSError: the file cannot be written; torchvision's own writer raises other kinds.
    """
    path.write_bytes(encode_jpeg(picture, quality).numpy().tobytes())
