"""From a person's box to the network's crop, and HRNet's augmentation; pure functions.

Boxes, centres and joints are in image pixels with pixel centres at integers; a *region* is a
centre and a size, of the crop's aspect, that the crop shows.  All but :func:`warp` take one person
or many at once: ``...`` stands for no dimension or for ``B``.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdpose.skeletons.skeleton import Skeleton

Array = NDArray[np.float32]
PADDING = 1.25  # a region is this much larger than its box (SimpleBaselines, HRNet)
HALF_BODY_PADDING = 1.5


@dataclass(frozen=True)
class Augmentation:
    """HRNet's training augmentation.

    Attributes:
        scale: standard deviation of the scale factor, which is clipped to 1 +- scale.
        rotation: standard deviation, degrees; clipped to twice that.
        rotation_probability: how often a crop is rotated at all.
        flip_probability: how often it is mirrored.
        half_body_probability: how often only the upper or lower body is shown.
        half_body_joints: a half body is taken of persons with more labelled joints than this.
    """

    scale: float = 0.35
    rotation: float = 45.0
    rotation_probability: float = 0.6
    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    half_body_joints: int = 8


def fit_aspect(size: Array, aspect: float, padding: float = PADDING) -> Array:
    """The smallest sizes ``(..., 2)`` of the given width/height ratio around boxes, padded."""
    width, height = size[..., 0], size[..., 1]
    wide = width > aspect * height
    fitted = [np.where(wide, width, height * aspect), np.where(wide, width / aspect, height)]
    return (np.stack(fitted, -1) * padding).astype(np.float32)


def box_region(box: Array, aspect: float, padding: float = PADDING) -> tuple[Array, Array]:
    """Centres and sizes of the regions that show boxes ``(..., 4)``: x, y, width, height."""
    return box[..., :2] + box[..., 2:] * 0.5, fit_aspect(box[..., 2:], aspect, padding)


def half_masks(visible: Array, skeleton: Skeleton) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which labelled joints ``(..., K)`` belong to the upper and to the lower half."""
    upper = np.isin(np.arange(len(skeleton)), skeleton.upper_body)
    return (visible > 0) & upper, (visible > 0) & ~upper


def joints_region(
    joints: Array, chosen: NDArray[np.bool_], aspect: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The region of a half body around the chosen joints: centre, size, and whether it has one.

    Args:
        joints: ``(..., K, 2)``, image pixels.
        chosen: ``(..., K)``; fewer than two, or all in one place, have no region.
        aspect: width/height of the region.
    """
    count = chosen.sum(-1)
    kept = chosen[..., None]
    center = np.where(kept, joints, 0).sum(-2) / np.maximum(count, 1)[..., None]
    low = np.where(kept, joints, np.inf).min(-2)
    high = np.where(kept, joints, -np.inf).max(-2)
    extent = np.where(count[..., None] > 0, high - low, 0)
    valid = (count >= 2) & (extent.max(-1) > 0)
    size = fit_aspect(extent.astype(np.float32), aspect, HALF_BODY_PADDING)
    return center.astype(np.float32), size, valid


def half_body_region(
    joints: Array,
    visible: Array,
    skeleton: Skeleton,
    aspect: float,
    prefer_upper: ArrayLike,
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The regions of persons' upper or lower halves: centre, size, and whether there is one.

    Args:
        joints: ``(..., K, 2)``, image pixels.
        visible: ``(..., K)``, COCO's v.
        skeleton: tells the halves apart; one without an upper body has none.
        aspect: width/height of the region.
        prefer_upper: ``(...)``, the half to show where both have more than two joints.
    """
    upper, lower = half_masks(visible, skeleton)
    take_upper = (np.asarray(prefer_upper) & (upper.sum(-1) > 2)) | (lower.sum(-1) <= 2)
    chosen = np.where(take_upper[..., None], upper, lower)
    center, size, valid = joints_region(joints, chosen, aspect)
    return center, size, valid & bool(skeleton.upper_body)


def crop_matrix(
    center: Array,
    size: Array,
    input_size: tuple[int, int],
    degrees: ArrayLike = 0.0,
    flip: ArrayLike = False,
) -> NDArray[np.float64]:
    """The ``(..., 2, 3)`` affine from image to crop pixels.

    At 0 degrees ``x' = (x - c_x) W / w + W / 2`` and ``y' = (y - c_y) W / w + H / 2``: the crop
    is isotropic, only the region's width enters the scale, as in HRNet's code.  HRNet mirrors the
    image (``u -> W_img - 1 - u``) and the centre with it; ``W_img`` cancels, and what is left is
    the sign of ``x - c_x``.
    """
    center = np.asarray(center, np.float64)
    scale = input_size[0] / np.asarray(size, np.float64)[..., 0]
    radians = np.broadcast_to(np.deg2rad(degrees), scale.shape)
    cos, sin = scale * np.cos(radians), scale * np.sin(radians)
    side = np.where(flip, -1.0, 1.0)
    linear = np.stack([np.stack([side * cos, sin], -1), np.stack([-side * sin, cos], -1)], -2)
    shift = np.array(input_size) / 2 - (linear @ center[..., None])[..., 0]
    return np.concatenate([linear, shift[..., None]], -1)


def inverse_affine(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse ``(..., 2, 3)`` of affines ``(..., 2, 3)``."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def shown(
    inverse: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last source pixel ``(..., 2)`` that crops read.

    Args:
        inverse: ``(..., 2, 3)`` from crop to source pixels.
        size: W, H of the crops.
    """
    right, bottom = size[0] - 1, size[1] - 1
    corners = np.array([(0, 0), (right, 0), (0, bottom), (right, bottom)], dtype=np.float64)
    points = corners @ inverse[..., :2].swapaxes(-1, -2) + inverse[..., None, :, 2]
    low, high = points.min(-2), points.max(-2)
    return np.floor(low - 0.01).astype(np.int64), np.floor(high + 0.01).astype(np.int64) + 2


def warp(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    output_size: tuple[int, int],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Cut a crop bilinearly, with zeros beyond the image, by the function that HRNet calls.

    Args:
        image: ``(h, w, 3)``.
        matrix: ``(2, 3)`` from image to crop pixels.
        output_size: W, H of the crop.
        out: ``(H, W, 3)``, where to write it.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    crop: Any = cv2.warpAffine(  # its stubs allow any dtype
        image, matrix, output_size, dst=out, flags=cv2.INTER_LINEAR
    )
    return crop


def warp_joints(joints: Array, matrix: NDArray[np.float64]) -> Array:
    """Map joints ``(..., K, 2)`` from image to crop pixels by ``(..., 2, 3)``."""
    moved = joints @ matrix[..., :2].swapaxes(-1, -2) + matrix[..., None, :, 2]
    return moved.astype(np.float32)


def warp_spread(spread: Array, matrix: NDArray[np.float64]) -> Array:
    """Standard deviations ``(..., K, 2)`` along x and y, from image to crop pixels.

    Of distributions that are independent along the image's axes, as SimCC's are: the variance along
    an axis of the crop is the sum of both variances by the squared coefficients.
    """
    variance = np.square(spread) @ np.square(matrix[..., :2]).swapaxes(-1, -2)
    return np.sqrt(variance).astype(np.float32)


class CropPlan(NamedTuple):
    """How persons are shown.

    Attributes:
        center: ``(..., 2)``, of the region, image pixels.
        size: ``(..., 2)``, of the region, image pixels.
        degrees: ``(...)``, by which the region is turned.
        flip: ``(...)``, whether it is mirrored.
    """

    center: Array
    size: Array
    degrees: ArrayLike = 0.0
    flip: ArrayLike = False

    def matrix(self, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """The ``(..., 2, 3)`` affine from the stored image to the crop."""
        return crop_matrix(self.center, self.size, input_size, self.degrees, self.flip)


class Draws(NamedTuple):
    """What chance decides of N views: ``uniform (N, 3)`` in [0, 1) and ``normal (N, 3)``."""

    uniform: Array
    normal: Array


def draw(seed: int, epoch: int, count: int) -> Draws:
    """The draws of an epoch; a row's depend on (seed, epoch, row) alone, not on the count."""
    uniform, normal = np.random.default_rng([seed, epoch]).spawn(2)
    return Draws(
        uniform.random((count, 3), dtype=np.float32),
        normal.standard_normal((count, 3), dtype=np.float32),
    )


def augmented(
    plan: CropPlan,
    joints: Array,
    visible: Array,
    skeleton: Skeleton,
    augmentation: Augmentation,
    draws: Draws,
) -> CropPlan:
    """Training views of persons, in HRNet's order: half body, scale, rotation, flip."""
    a = augmentation
    center, size = plan.center, plan.size
    half, rotate, flip = np.moveaxis(draws.uniform, -1, 0)
    prefer, factor, turn = np.moveaxis(draws.normal, -1, 0)
    wanted = ((visible > 0).sum(-1) > a.half_body_joints) & (half < a.half_body_probability)
    if wanted.any():
        aspect = float(size.flat[0] / size.flat[1])
        # HRNet shows the upper half where a standard normal is below 0.5
        part = half_body_region(joints, visible, skeleton, aspect, prefer < 0.5)
        wanted = (wanted & part[2])[..., None]
        center, size = np.where(wanted, part[0], center), np.where(wanted, part[1], size)
    factor = np.clip(factor * a.scale + 1, 1 - a.scale, 1 + a.scale)
    degrees = np.clip(turn * a.rotation, -2 * a.rotation, 2 * a.rotation)
    return CropPlan(
        center=center,
        size=(size * factor[..., None]).astype(np.float32),
        degrees=np.where(rotate < a.rotation_probability, degrees, 0.0),
        flip=flip < a.flip_probability,
    )
