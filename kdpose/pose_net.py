"""Networks from crop to pose: teacher or student, and the refined student."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import NOTHING, Answer, Pose, PoseOutput, Scores


class Backbone(Protocol):
    """A module that returns maps, fine to coarse; the head reads the first.

    Attributes:
        channels: C_i of the maps.
        strides: crop pixels per cell of the maps.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map normalised crops ``(B, 3, H, W)`` to maps ``(B, C_i, H_i, W_i)``."""


class Codec(Protocol):
    """What a head's scores mean: SimCC's bins or heatmaps; only head and codec know which.

    Attributes:
        input_size: network input ``(W, H)``, pixels.
        bins: number of scores along x and y that the head must return.
        flip_shift: bins by which :meth:`unflip` moves.
        score_threshold: joint scores up to this, before any calibration, do not enter a person's
            score.
    """

    input_size: tuple[int, int]

    @property
    def bins(self) -> tuple[int, int]:
        """Numbers of bins along x and y."""

    @property
    def flip_shift(self) -> float:
        """Bins by which the mirrored view's scores move."""

    @property
    def score_threshold(self) -> float:
        """Joints with a lower score are not found."""

    def encode(self, joints: Tensor, visible: Tensor) -> Any:
        """The target for the codec's loss; its ``weight (B, K)`` is 1 for learned joints."""

    def as_target(self, scores: Any, weight: Tensor, /) -> Any:
        """A network's scores in the target's form, with joint weights ``(B, K)``."""

    def decode(self, scores: Any, /) -> Pose:
        """Joints in crop pixels, as they are evaluated."""

    def spread(self, scores: Any, /) -> Tensor:
        """Standard deviations ``(B, K, 2)`` of the joints' distributions, crop pixels."""

    def expectation(self, scores: Any, /, temperature: float = 1.0) -> Tensor:
        """Joints ``(B, K, 2)`` in crop pixels, as Eq. 2 and 3 compare them."""

    def unflip(self, scores: Any, /, flip_order: Sequence[int]) -> Any:
        """The scores of a mirrored crop in the crop's own frame."""

    def merge(self, scores: Any, mirrored: Any, /) -> Any:
        """The average of two views."""


_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, of RGB in [0, 1]
_STD = (0.229, 0.224, 0.225)


class PoseNet(nn.Module):
    """Backbone, head and codec; teacher and student alike.

    Args:
        backbone: returns maps, fine to coarse, and has ``channels`` and ``strides``. A backbone or
            head that has something for losses too has ``gives_extras``, and ``extras=True`` asks
            for it: a pair of what it returns and a dict.
        head: builds the head from ``in_channels``, ``num_joints``, ``feature_size``, ``bins``.
        codec: input size, bins and decoding.
        skeleton: joints, and their order after a flip.
        calibration: slope a and offset b that turn a decoded score s into the probability
            sigmoid(a ln s + b) that the joint is within OKS' reach, see
            :mod:`kdpose.evaluation.calibration`; None: scores stay the codec's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: Callable[..., nn.Module],
        codec: Codec,
        skeleton: Skeleton,
        calibration: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if calibration is not None and len(calibration) != 2:
            raise ValueError(f"calibration must be slope and offset, got {list(calibration)}")
        self.calibration = calibration
        self.backbone = backbone
        self.codec = codec
        self.skeleton = skeleton
        stride = backbone.strides[0]
        self.head = head(
            in_channels=backbone.channels[0],
            num_joints=len(skeleton),
            feature_size=tuple(-(-side // stride) for side in codec.input_size),
            bins=codec.bins,
        )
        for name, usual in (("mean", _MEAN), ("std", _STD)):
            values = getattr(backbone, name, None) or usual  # what its weights were trained with
            if len(values) != 3 or not 0 < min(values) <= max(values) <= 1:
                raise ValueError(f"backbone.{name} must be three numbers in (0, 1], got {values}")
            pixels = 255 * torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, pixels.view(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)  # convolutions run faster in it

    def forward(self, image: Tensor, extras: bool | None = None) -> PoseOutput:
        """Score joint positions in crops ``(B, 3, H, W)``, RGB in 0..255, uint8 or float.

        Args:
            image: crops.
            extras: ask for what head and backbone offer to losses; None: in training mode only.
        """
        pixels = (image.float() - self.mean) / self.std
        asked = self.training if extras is None else extras
        features, seen = _called(self.backbone, pixels, asked)
        scores, offered = self._scores(features[0], asked)
        return PoseOutput(scores, features, {**seen, **offered})

    def _scores(self, feature: Tensor, extras: bool) -> tuple[Scores, Mapping[str, Any]]:
        """The head's scores, in float32 or better: in bfloat16 neighbouring bins tie."""
        device = feature.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._scores(feature.float(), extras)
        return _called(self.head, feature, extras)

    def logits(self, image: Tensor, flip: bool = False) -> Scores:
        """The head's scores, averaged with those of the mirrored crop if ``flip``."""
        logits: Scores = self(image, extras=False).logits
        if not flip:
            return logits
        mirrored = self(image.flip(-1), extras=False).logits
        back = self.codec.unflip(mirrored, self.skeleton.flip_order)
        merged: Scores = self.codec.merge(logits, back)
        return merged

    def pose(self, image: Tensor, flip: bool = False) -> Pose:
        """Decoded joints in crop pixels and their scores, calibrated where the net is."""
        return self.calibrated(self.codec.decode(self.logits(image, flip)))

    def answer(self, image: Tensor, flip: bool = False) -> Answer:
        """The pose with the spreads of the joints' distributions."""
        scores = self.logits(image, flip)
        return Answer(*self.calibrated(self.codec.decode(scores)), self.codec.spread(scores))

    def calibrated(self, pose: Pose) -> Pose:
        """The pose with scores as probabilities; as it is without a calibration."""
        if self.calibration is None:
            return pose
        slope, offset = self.calibration
        return pose._replace(scores=(slope * pose.scores.clamp(min=1e-6).log() + offset).sigmoid())

    @property
    def score_threshold(self) -> float:
        """Joint scores up to this do not enter a person's score: the codec's, calibrated alike."""
        limit = torch.tensor(self.codec.score_threshold, dtype=torch.float64)
        return self.calibrated(Pose(limit, limit)).scores.item()


def _called(part: Any, given: Tensor, extras: bool) -> tuple[Any, Mapping[str, Any]]:
    """What a backbone or head gives, and what it offers to losses where it is asked for that."""
    if extras and getattr(part, "gives_extras", False):
        given_back, offered = part(given, extras=True)
        return given_back, offered
    return part(given), NOTHING


class RefinedPoseNet(nn.Module):
    """A frozen student and the refiner that moves its joints (paper III-B).

    Args:
        student: from stage 1; kept in eval mode and without gradients.
        refiner: builds the refiner from ``channels``, ``strides``, ``input_size``,
            ``num_joints`` and ``limbs``.
    """

    def __init__(self, student: PoseNet, refiner: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.student = student.requires_grad_(False).eval()
        self.codec = student.codec
        self.skeleton = student.skeleton
        self.refiner = refiner(
            channels=student.backbone.channels,
            strides=student.backbone.strides,
            input_size=student.codec.input_size,
            num_joints=len(student.skeleton),
            limbs=student.skeleton.limbs,
        )

    @property
    def calibration(self) -> Sequence[float] | None:
        """The student's: its scores are those of the refined pose."""
        return self.student.calibration

    @property
    def score_threshold(self) -> float:
        """The student's."""
        return self.student.score_threshold

    def train(self, mode: bool = True) -> Self:
        """Switch the refiner alone: the student keeps the batch statistics of stage 1."""
        super().train(mode)
        self.student.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Pose, Sequence[Tensor]]:
        """The student's pose and the refined joints ``(B, K, 2)`` of each block, coarse to fine."""
        with torch.no_grad():
            logits, features, _ = self.student(image)
            initial = self.codec.decode(logits)
        return initial, self.refiner(initial, features)

    def pose(self, image: Tensor, flip: bool = False) -> Pose:
        """The last block's joints with the student's scores.

        With ``flip`` the student's distributions over bins are averaged first, as they are without
        a refiner; both views are then refined from that one pose and their coordinates averaged.
        Averaging two separately decoded poses would put a joint between two persons where the views
        disagree; on crowds this costs more than the refiner gains.
        """
        if not flip:
            initial, refined = self(image)
            return self.student.calibrated(Pose(refined[-1], initial.scores))
        order, width = self.skeleton.flip_order, image.shape[-1]
        with torch.no_grad():
            logits, features, _ = self.student(image)
            other, other_features, _ = self.student(image.flip(-1))
            merged = self.codec.merge(logits, self.codec.unflip(other, order))
            initial = self.codec.decode(merged)
        mirrored = self.refiner(_mirrored(initial, order, width), other_features)[-1]
        back = _mirrored(Pose(mirrored, initial.scores), order, width)
        joints = self.refiner(initial, features)[-1]
        return self.student.calibrated(Pose((joints + back.joints) / 2, initial.scores))


def _mirrored(pose: Pose, flip_order: Sequence[int], width: int) -> Pose:
    """The same pose in the mirrored crop: u -> W - 1 - u, left and right exchanged."""
    order = list(flip_order)
    joints = torch.stack([width - 1 - pose.joints[..., 0], pose.joints[..., 1]], dim=-1)
    return Pose(joints[:, order], pose.scores[:, order])
