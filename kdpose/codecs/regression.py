"""Coordinates: a joint as two numbers that a network regresses, with their deviations."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdpose.codecs import STRIDE, check_joints, whole_cells
from kdpose.types import Coordinates, CoordinateTarget, Pose


@dataclass(frozen=True)
class Regression:
    """Encodes joints as shares of the crop's width and height, and decodes such shares.

    Attributes:
        input_size: network input ``(W, H)``, pixels.

    Raises:
        ValueError: the size is not two multiples of 4.
    """

    input_size: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", whole_cells(self.input_size))

    @property
    def bins(self) -> tuple[int, int]:
        """Cells ``(w, h)`` of a heatmap teacher's maps; coordinates themselves have none."""
        return self.input_size[0] // STRIDE, self.input_size[1] // STRIDE

    @property
    def flip_shift(self) -> float:
        """Coordinates are mirrored exactly."""
        return 0.0

    @property
    def score_threshold(self) -> float:
        """Joint scores up to this do not enter a person's score, as in heatmap networks."""
        return 0.2

    def encode(self, joints: Tensor, visible: Tensor) -> CoordinateTarget:
        """Shares ``(B, K, 2)`` and weights; joints outside the crop have weight 0.

        Args:
            joints: ``(B, K, 2)``, (x, y), crop pixels.
            visible: ``(B, K)``, COCO's v.

        Returns:
            Float32 target on the device of ``joints``; its weights are 0 or 1.

        Raises:
            ValueError: ``visible`` does not fit ``joints``.
        """
        check_joints(joints, visible)
        shares = joints.float() / joints.new_tensor(self.input_size, dtype=torch.float32)
        inside = ((shares >= 0) & (shares < 1)).all(-1)
        return CoordinateTarget(shares, visible.float().clamp(0, 1) * inside)

    def as_target(self, scores: Coordinates, weight: Tensor) -> CoordinateTarget:
        """A network's coordinates as a target, with joint weights ``(B, K)``."""
        return CoordinateTarget(scores.joints, weight)

    def decode(self, scores: Coordinates) -> Pose:
        """Joints ``(B, K, 2)``, crop pixels, and their scores."""
        return Pose(self._pixels(scores.joints), scores.score)

    def spread(self, scores: Coordinates) -> Tensor:
        """The deviations ``(B, K, 2)``, crop pixels."""
        return self._pixels(scores.deviation)

    def expectation(self, scores: Coordinates, temperature: float = 1.0) -> Tensor:
        """The joints ``(B, K, 2)``, crop pixels, with their gradients.

        Args:
            scores: of a network.
            temperature: not used: coordinates have no bins.
        """
        return self._pixels(scores.joints)

    def unflip(self, scores: Coordinates, flip_order: Sequence[int]) -> Coordinates:
        """Map the coordinates in a horizontally mirrored crop back: u -> W - 1 - u.

        Args:
            scores: of the mirrored crop.
            flip_order: K joint indices, ``Skeleton.flip_order``.
        """
        order, width = list(flip_order), self.input_size[0]
        joints, deviation, score = (part[:, order] for part in scores)
        x = (width - 1) / width - joints[..., 0]
        return Coordinates(torch.stack([x, joints[..., 1]], dim=-1), deviation, score)

    def merge(self, scores: Coordinates, mirrored: Coordinates) -> Coordinates:
        """Average two views of one crop; ``mirrored`` comes from :meth:`unflip`."""
        return Coordinates(*((a + b) / 2 for a, b in zip(scores, mirrored, strict=True)))

    def _pixels(self, shares: Tensor) -> Tensor:
        return shares * shares.new_tensor(self.input_size)
