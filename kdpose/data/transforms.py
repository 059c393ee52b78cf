"""From a person's box to the network's crop, and HRNet's augmentation; pure functions.

Boxes, centres and joints are in image pixels with pixel centres at integers; a *region* is a
centre and a size, of the crop's aspect, that the crop shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdpose.keypoints import Skeleton

Array = NDArray[np.float32]
PADDING = 1.25  # a region is this much larger than its box (SimpleBaselines, HRNet)


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
    """The smallest size of the given width/height ratio around a box, padded."""
    width, height = float(size[0]), float(size[1])
    if width > aspect * height:
        height = width / aspect
    else:
        width = height * aspect
    return np.array([width * padding, height * padding], dtype=np.float32)


def box_region(box: Array, aspect: float) -> tuple[Array, Array]:
    """Centre and size of the region that shows a box ``(x, y, w, h)``."""
    center = box[:2] + box[2:] * 0.5
    return center, fit_aspect(box[2:], aspect)


def half_body_region(
    joints: Array,
    visible: Array,
    skeleton: Skeleton,
    aspect: float,
    rng: np.random.Generator,
) -> tuple[Array, Array] | None:
    """The region of a person's upper or lower half, or None where too few joints are labelled.

    Args:
        joints: ``(K, 2)``, image pixels.
        visible: ``(K,)``, COCO's v.
        skeleton: tells the halves apart; one without an upper body has none.
        aspect: width/height of the region.
        rng: chooses the half: the upper one where a standard normal is below 0.5 (HRNet).
    """
    labelled = set(np.flatnonzero(visible > 0).tolist())
    upper = [k for k in skeleton.upper_body if k in labelled]
    lower = [k for k in skeleton.lower_body if k in labelled]
    prefer_upper = rng.standard_normal() < 0.5
    chosen = upper if (prefer_upper and len(upper) > 2) or len(lower) <= 2 else lower
    if len(chosen) < 2 or not skeleton.upper_body:
        return None
    points = joints[chosen]
    center = points.mean(axis=0).astype(np.float32)
    extent = points.max(axis=0) - points.min(axis=0)
    if max(extent) <= 0:
        return None
    return center, fit_aspect(extent, aspect, padding=1.5)


def crop_matrix(
    center: Array, size: Array, input_size: tuple[int, int], degrees: float = 0.0
) -> NDArray[np.float64]:
    """The ``(2, 3)`` affine from image to crop pixels.

    At 0 degrees ``x' = (x - c_x) W / w + W / 2`` and ``y' = (y - c_y) W / w + H / 2``: the crop
    is isotropic, only the region's width enters the scale, as in HRNet's code.
    """
    scale = input_size[0] / float(size[0])
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    linear = scale * np.array([[cos, sin], [-sin, cos]])
    middle = np.array(input_size) / 2
    return np.hstack([linear, (middle - linear @ center)[:, None]])


def mirrored(matrix: NDArray[np.float64], image_width: float) -> NDArray[np.float64]:
    """The matrix for an image mirrored first: ``u -> W_img - 1 - u``."""
    flip = np.array([[-1.0, 0.0, image_width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    product: NDArray[np.float64] = matrix @ flip
    return product


def warp(
    image: Image.Image, matrix: NDArray[np.float64], output_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Cut a crop bilinearly, black outside the image.

    Args:
        image: RGB.
        matrix: ``(2, 3)`` from image to crop pixels.
        output_size: W, H of the crop.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    # Pillow's coordinates run along pixel edges, ours through pixel centres.
    offset = inverse[:, 2] - inverse[:, :2].sum(axis=1) * 0.5 + 0.5
    data = (*inverse[0, :2], offset[0], *inverse[1, :2], offset[1])
    crop = image.transform(
        output_size, Image.Transform.AFFINE, data, resample=Image.Resampling.BILINEAR
    )
    return np.asarray(crop)


def warp_joints(joints: Array, matrix: NDArray[np.float64]) -> Array:
    """Map joints ``(K, 2)`` from image to crop pixels."""
    return (joints @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


@dataclass(frozen=True)
class CropPlan:
    """How one person is shown: the region, its rotation and whether it is mirrored."""

    center: Array
    size: Array
    degrees: float = 0.0
    flip: bool = False

    def matrix(self, input_size: tuple[int, int], image_width: float) -> NDArray[np.float64]:
        """The ``(2, 3)`` affine from the stored image to the crop."""
        if not self.flip:
            return crop_matrix(self.center, self.size, input_size, self.degrees)
        center = np.array([image_width - 1 - self.center[0], self.center[1]], dtype=np.float32)
        return mirrored(crop_matrix(center, self.size, input_size, self.degrees), image_width)


def augmented(
    plan: CropPlan,
    joints: Array,
    visible: Array,
    skeleton: Skeleton,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> CropPlan:
    """Draw a training view of a person, in HRNet's order: half body, scale, rotation, flip."""
    a = augmentation
    center, size = plan.center, plan.size
    if (visible > 0).sum() > a.half_body_joints and rng.random() < a.half_body_probability:
        aspect = float(size[0] / size[1])
        center, size = half_body_region(joints, visible, skeleton, aspect, rng) or (center, size)
    factor = np.clip(rng.standard_normal() * a.scale + 1, 1 - a.scale, 1 + a.scale)
    degrees = np.clip(rng.standard_normal() * a.rotation, -2 * a.rotation, 2 * a.rotation)
    rotate = rng.random() < a.rotation_probability
    return CropPlan(
        center=center,
        size=(size * factor).astype(np.float32),
        degrees=float(degrees) if rotate else 0.0,
        flip=bool(rng.random() < a.flip_probability),
    )
