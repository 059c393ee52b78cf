"""The tensors that kdpose passes around: shape, frame and unit, defined in one place.

Letters: ``B`` batch, ``K`` joints, ``E`` limbs, ``C`` channels, ``W x H`` network input in pixels,
``nx, ny`` SimCC bins.  *Crop pixels* are the network input's own pixels, (x, y), pixel centres at
integers; *image pixels* are those of the photograph the crop was cut from.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor


class PoseBatch(NamedTuple):
    """Persons cut from their images; a dataset item is the same without ``B``.

    Attributes:
        image: ``(B, 3, H, W)`` RGB crop, uint8 until it reaches the device, then normalised float.
        joints: ``(B, K, 2)`` float32, crop pixels.
        visible: ``(B, K)`` float32, COCO's v: 0 not labelled, 1 hidden, 2 visible.
        center: ``(B, 2)`` float32, centre of the cropped region, image pixels.
        size: ``(B, 2)`` float32, width and height of the cropped region, image pixels.
        image_id: ``(B,)`` int64, the image's id in the annotation file.
        person: ``(B,)`` int64, row of the person in the split; unique; used to remove
            duplicate results.
        box_score: ``(B,)`` float32, the detector's score, 1 for ground-truth boxes.
        teacher_image: the same crop at the teacher's input size, or None if the sizes are equal.
        taught: ``(B, K, 2)`` float32, crop pixels, a teacher's stored joints, or None.
        taught_score: ``(B, K)`` float32 in [0, 1], their scores, or None.
        taught_spread: ``(B, K, 2)`` float32, crop pixels, standard deviations of the distributions
            that they are the peaks of, 0 where unknown, or None.
    """

    image: Tensor
    joints: Tensor
    visible: Tensor
    center: Tensor
    size: Tensor
    image_id: Tensor
    person: Tensor
    box_score: Tensor
    teacher_image: Tensor | None = None
    taught: Tensor | None = None
    taught_score: Tensor | None = None
    taught_spread: Tensor | None = None


class SimCCLogits(NamedTuple):
    """Unnormalised scores of the coordinate bins: ``x (B, K, nx)`` and ``y (B, K, ny)``."""

    x: Tensor
    y: Tensor


class SimCCTarget(NamedTuple):
    """Target distributions ``x (B, K, nx)``, ``y (B, K, ny)`` and joint weights ``(B, K)``."""

    x: Tensor
    y: Tensor
    weight: Tensor


class HeatmapTarget(NamedTuple):
    """Gaussians of peak 1 ``maps (B, K, h, w)`` and joint weights ``(B, K)``."""

    maps: Tensor
    weight: Tensor


class Coordinates(NamedTuple):
    """Joints as a network regresses them.

    Attributes:
        joints: ``(B, K, 2)``, (x, y) as shares of the crop's width and height.
        deviation: ``(B, K, 2)``, standard deviations along x and y, in the same unit.
        score: ``(B, K)`` in [0, 1].
    """

    joints: Tensor
    deviation: Tensor
    score: Tensor


class CoordinateTarget(NamedTuple):
    """Joints ``(B, K, 2)`` as shares of the crop's width and height; joint weights ``(B, K)``."""

    joints: Tensor
    weight: Tensor


Scores = SimCCLogits | Coordinates | Tensor  # what a head returns and its codec reads
Target = SimCCTarget | HeatmapTarget | CoordinateTarget
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Pose(NamedTuple):
    """Decoded joints ``(B, K, 2)`` in crop pixels and their scores ``(B, K)``."""

    joints: Tensor
    scores: Tensor


class Answer(NamedTuple):
    """A pose, and how sure of its places a network is.

    Attributes:
        joints: ``(B, K, 2)``, crop pixels.
        scores: ``(B, K)``.
        spread: ``(B, K, 2)``, crop pixels: standard deviations along x and y of the distributions
            that the joints are the peaks of; None of networks that give joints alone.
    """

    joints: Tensor
    scores: Tensor
    spread: Tensor | None = None


class PoseOutput(NamedTuple):
    """What a pose network returns.

    Attributes:
        logits: the SimCC bins' scores, heatmaps ``(B, K, h, w)`` or coordinates, as the codec reads
            them.
        features: maps ``(B, C_i, H_i, W_i)`` from fine to coarse; the first is the one
            that the head reads and that Eq. 1 distils.
        extras: what the head offers to losses besides its scores, by name; empty at inference.
    """

    logits: Scores
    features: tuple[Tensor, ...]
    extras: Mapping[str, Any] = NOTHING
