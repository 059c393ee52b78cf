"""SimCC: a joint's x and y as two classifications over sub-pixel bins (Li et al., ECCV 2022).

Bin ``i`` of an axis is crop pixel ``i / split_ratio``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kdpose.codecs import check_joints
from kdpose.codecs.spread import bin_spread
from kdpose.types import Pose, SimCCLogits, SimCCTarget

_NARROWEST = 0.5  # bins: a narrower Gaussian may fall between two of them


def _precise(values: Tensor) -> Tensor:
    """At least float32: under bf16, bin 300.37 is 300."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True)
class SimCC:
    """Encodes joints as bin distributions and decodes bin scores to joints.

    Attributes:
        input_size: network input ``(W, H)``, pixels.
        split_ratio: k, bins per pixel.
        label: ``smooth``, a smoothed one-hot class (the reference's SimDR), or ``gaussian``
            (its SA-SimDR).
        smoothing: epsilon, the mass that ``smooth`` spreads evenly over the other bins.
        sigma: standard deviation of ``gaussian``, bins.

    Raises:
        ValueError: a field is out of range.
    """

    input_size: tuple[int, int]
    split_ratio: float = 2.0
    label: Literal["smooth", "gaussian"] = "smooth"
    smoothing: float = 0.1
    sigma: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", tuple(self.input_size))
        if len(self.input_size) != 2 or min(self.input_size) < 1:
            raise ValueError(f"input_size must be two sizes W, H in pixels, got {self.input_size}")
        if self.split_ratio <= 0 or min(self.bins) < 2:
            raise ValueError(f"split_ratio must give 2 bins or more, got {self.split_ratio}")
        if self.label not in ("smooth", "gaussian"):
            raise ValueError(f"label must be 'smooth' or 'gaussian', got '{self.label}'")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")
        if self.sigma <= 0:
            raise ValueError(f"sigma must be positive (bins), got {self.sigma}")

    @property
    def bins(self) -> tuple[int, int]:
        """Numbers of bins ``(nx, ny)``."""
        return int(self.input_size[0] * self.split_ratio), int(
            self.input_size[1] * self.split_ratio
        )

    @property
    def flip_shift(self) -> float:
        """Bins by which :meth:`unflip` moves the mirrored scores."""
        return self.split_ratio - 1

    @property
    def score_threshold(self) -> float:
        """Joint scores up to this do not count for a person's score: bins share the probability."""
        return 0.01

    def encode(self, joints: Tensor, visible: Tensor, spread: Tensor | None = None) -> SimCCTarget:
        """Target distributions and weights, as the reference implementation builds them.

        ``smooth``: 1 - epsilon at the nearest bin, the rest shared by the others; a joint whose
        nearest bin is outside has weight 0. ``gaussian``: the density at each bin, neither rounded
        nor renormalised at the border; weight and target of a joint are 0 only if the box of
        3 sigma around it, with sigma in *pixels*, is completely outside.

        Args:
            joints: ``(B, K, 2)``, (x, y), crop pixels.
            visible: ``(B, K)``, COCO's v.
            spread: ``(B, K, 2)``, crop pixels: standard deviations in place of ``sigma``, where
                they are positive; of ``gaussian`` alone.

        Returns:
            Float32 target on the device of ``joints``; its weights are 0 or 1.

        Raises:
            ValueError: ``visible`` does not fit ``joints``, or ``smooth`` is given a spread.
        """
        check_joints(joints, visible)
        if self.label == "smooth":
            if spread is not None:
                raise ValueError(
                    "a smoothed label has no width: stored answers with a spread need "
                    "codec.label=gaussian, or teacher.spread=false"
                )
            x, inside_x = self._smooth_axis(joints[..., 0].float(), 0)
            y, inside_y = self._smooth_axis(joints[..., 1].float(), 1)
        else:
            sigma = self._widths(joints, spread)
            x, inside_x = self._gaussian_axis(joints[..., 0].float(), sigma[..., 0], 0)
            y, inside_y = self._gaussian_axis(joints[..., 1].float(), sigma[..., 1], 1)
        weight = visible.float().clamp(0, 1) * (inside_x & inside_y)
        if self.label == "gaussian":
            x, y = x * weight[..., None], y * weight[..., None]
        return SimCCTarget(x, y, weight)

    def as_target(self, logits: SimCCLogits, weight: Tensor) -> SimCCTarget:
        """A network's distributions as a target, with joint weights ``(B, K)``."""
        x, y = (_precise(scores).softmax(-1) for scores in logits)
        return SimCCTarget(x, y, weight)

    def decode(self, logits: SimCCLogits) -> Pose:
        """Joints at the likeliest bins, crop pixels.

        The score is the larger of the two axes' maximal probabilities for ``smooth`` and the
        smaller one for ``gaussian``, as in the reference implementation.
        """
        score_x, bin_x = _precise(logits.x).softmax(-1).max(-1)
        score_y, bin_y = _precise(logits.y).softmax(-1).max(-1)
        join = torch.maximum if self.label == "smooth" else torch.minimum
        joints = torch.stack((bin_x, bin_y), dim=-1).to(score_x.dtype) / self.split_ratio
        return Pose(joints, join(score_x, score_y))

    def spread(self, logits: SimCCLogits) -> Tensor:
        """Standard deviations ``(B, K, 2)`` of the distributions along x and y, crop pixels."""
        widths = [bin_spread(_precise(scores).softmax(-1)) for scores in logits]
        return torch.stack(widths, -1) / self.split_ratio

    def expectation(self, logits: SimCCLogits, temperature: float = 1.0) -> Tensor:
        """Differentiable joints (soft-argmax): the mean of softmax(temperature * logits).

        A model trained with ``smooth`` puts epsilon of its mass everywhere, so that its mean is
        pulled towards the crop's centre, by up to 9 px at 192 px; two such models are pulled alike.

        Returns:
            ``(B, K, 2)`` crop pixels, float32 (float64 for float64 logits).
        """
        means = []
        for scores in logits:
            probability = (_precise(scores) * temperature).softmax(-1)
            index = torch.arange(scores.shape[-1], device=scores.device, dtype=probability.dtype)
            # not a matrix product, which autocast would run in bf16
            means.append((probability * index).sum(-1))
        return torch.stack(means, dim=-1) / self.split_ratio

    def unflip(self, logits: SimCCLogits, flip_order: Sequence[int]) -> SimCCLogits:
        """Map the logits of a horizontally mirrored crop back to the crop.

        Mirroring takes pixel u to W - 1 - u, hence bin i to k (W - 1) - i: the reversed axis
        shifted by k - 1 bins (one bin at k = 2, as in the reference implementation), repeating
        the end bin; between bins (k = 1.5) logits are interpolated linearly.

        Args:
            logits: of the mirrored crop.
            flip_order: K joint indices, ``Skeleton.flip_order``.

        Returns:
            Logits; those of ``smooth`` are logarithms of probabilities, normalised after the shift
            as in the reference.
        """
        order, count = list(flip_order), logits.x.shape[-1]
        x, y = _precise(logits.x[:, order]), _precise(logits.y[:, order])
        index = torch.arange(count, device=x.device, dtype=x.dtype)
        source = (self.split_ratio * (self.input_size[0] - 1) - index).clamp(0, count - 1)
        low = source.floor()
        high = (low + 1).clamp(max=count - 1)
        x = torch.lerp(x[..., low.long()], x[..., high.long()], source - low)
        if self.label == "smooth":
            x, y = x.log_softmax(-1), y.log_softmax(-1)
        return SimCCLogits(x, y)

    def merge(self, logits: SimCCLogits, mirrored: SimCCLogits) -> SimCCLogits:
        """Average two views of one crop; ``mirrored`` is what :meth:`unflip` returned.

        ``smooth`` averages probabilities and returns their logarithms, ``gaussian`` averages
        logits, both as in the reference implementation.
        """
        average = _mean_probability if self.label == "smooth" else _mean_logit
        return SimCCLogits(average(logits.x, mirrored.x), average(logits.y, mirrored.y))

    def _smooth_axis(self, coordinate: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        count = self.bins[axis]
        nearest = (coordinate * self.split_ratio).round()
        inside = (nearest >= 0) & (nearest < count)
        index = torch.arange(count, device=coordinate.device)
        hit = index == nearest.clamp(0, count - 1)[..., None]
        spread = self.smoothing / (count - 1)
        return hit * (1 - self.smoothing - spread) + spread, inside

    def _widths(self, joints: Tensor, spread: Tensor | None) -> Tensor:
        """``(B, K, 2)`` standard deviations of the targets, bins."""
        if spread is None:
            return torch.full_like(joints, self.sigma, dtype=torch.float32)
        wide = (spread.float() * self.split_ratio).clamp(min=_NARROWEST)
        return torch.where(spread > 0, wide, self.sigma)

    def _gaussian_axis(self, coordinate: Tensor, sigma: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        index, sigma = torch.arange(self.bins[axis], device=coordinate.device), sigma[..., None]
        distance = (index - coordinate[..., None] * self.split_ratio) / sigma
        density = (-0.5 * distance.square()).exp() / (sigma * math.sqrt(2 * math.pi))
        reach = 3 * sigma[..., 0]
        inside = (coordinate + reach >= 0) & (coordinate - reach < self.input_size[axis])
        return density, inside


def _mean_probability(logits: Tensor, mirrored: Tensor) -> Tensor:
    """Of logits and of logarithms of probabilities."""
    return torch.logaddexp(_precise(logits).log_softmax(-1), mirrored) - math.log(2)


def _mean_logit(logits: Tensor, mirrored: Tensor) -> Tensor:
    return (_precise(logits) + mirrored) / 2
