"""Pose networks of other projects, which teach, are evaluated and predict as they are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from torch import Tensor, nn

from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Answer, Pose

# keys of conf/teacher that say how a network teaches; the others build it
TRAINING_KEYS = frozenset(
    {"check", "check_persons", "force", "inherit", "cache", "spread", "folder"}
)
_NEAR = 0.05  # crop sides within which the mirrored answer is the same joint


@dataclass(frozen=True)
class GuestCodec:
    """What evaluation asks of a codec.

    Attributes:
        input_size: W, H of the crop.
        score_threshold: joint scores up to this do not enter a person's score.
        flip_shift: bins by which the mirrored view moves: none.
    """

    input_size: tuple[int, int]
    score_threshold: float = 0.2
    flip_shift: float = 0.0


class GuestNet(nn.Module):
    """A network that finds the joints of one person in a crop; each kind defines :meth:`look`.

    Attributes:
        name: short, for file names.
        where: the file or folder and the key it came from, for messages.
        skeleton: of its joints.
        codec: sizes and thresholds.
        padding: the crop's size relative to the box.
        sure: the score of a joint that it has no doubt of.
    """

    name: str
    where: str
    skeleton: Skeleton
    codec: GuestCodec
    padding: float
    sure: float = 1.0

    def look(self, image: Tensor) -> Answer:
        """What the network answers of crops ``(B, 3, H, W)``, uint8 RGB."""
        raise NotImplementedError

    @property
    def score_threshold(self) -> float:
        """Joint scores up to this do not enter a person's score."""
        return self.codec.score_threshold

    def fingerprint(self) -> str:
        """A hash of its weights."""
        return weights_hash(self)

    def feature_maps(self) -> list[str]:
        """Names and shapes of inner maps of stride 4, where they are known."""
        return []

    def feature(self, image: Tensor) -> Tensor | None:
        """The map ``(B, C, h, w)`` that Eq. 1 compares, of crops as in :meth:`look`, if any."""
        return None

    def pose(self, image: Tensor, flip: bool = False) -> Pose:
        """Joints in crop pixels and scores, at most 1.

        Args:
            image: ``(B, 3, H, W)`` uint8 RGB.
            flip: average with the mirrored crop.
        """
        answer = self.answer(image, flip)
        return Pose(answer.joints, answer.scores)

    def answer(self, image: Tensor, flip: bool = False) -> Answer:
        """The pose as in :meth:`pose`, with spreads where the network gives distributions."""
        answer = self.look(image)
        if flip:
            mirrored = self.look(image.flip(-1))
            size = self.codec.input_size
            back = _unflipped(mirrored, self.skeleton, size[0])
            answer = _merged(answer, back, near=_NEAR * max(size))
        return answer._replace(scores=(answer.scores / self.sure).clamp(max=1))


@dataclass(frozen=True)
class LoadedGuest:
    """A network of another project in the place of a checkpoint.

    Attributes:
        net: the network.
        description: what a checkpoint would say; of data, nothing.
    """

    net: GuestNet
    description: dict[str, Any] = field(default_factory=lambda: {"dataset": {}})


def open_guest(teacher: Mapping[str, Any]) -> LoadedGuest:
    """The network that a file of ``conf/teacher`` describes, without the keys of training.

    Raises:
        FileNotFoundError: there is no such network.
        ValueError: it cannot be read, or the keys describe another kind of teacher.
    """
    kind = get_object(teacher["_target_"])
    if not (isinstance(kind, type) and issubclass(kind, GuestNet)):
        raise ValueError(
            "this teacher is not a network that can run here: set teacher=onnx, "
            "huggingface or keypoint_rcnn; a checkpoint is given by ckpt=PATH, and "
            "stored poses are scored by kdpose evaluate"
        )
    keys = {key: value for key, value in teacher.items() if key not in TRAINING_KEYS}
    return LoadedGuest(instantiate(keys, _convert_="all"))


def file_hash(*files: Path) -> str:
    """Of the contents of files."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def weights_hash(net: nn.Module) -> str:
    """Of the tensors of a network and their names."""
    total = hashlib.sha256()
    for name, value in net.state_dict().items():
        total.update(name.encode())
        flat = value.detach().cpu().contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _unflipped(answer: Answer, skeleton: Skeleton, width: int) -> Answer:
    """The mirrored crop's answer in the crop's own frame."""
    order = list(skeleton.flip_order)
    joints = torch.stack([width - 1 - answer.joints[..., 0], answer.joints[..., 1]], -1)
    spread = None if answer.spread is None else answer.spread[:, order]
    return Answer(joints[:, order], answer.scores[:, order], spread)


def _merged(one: Answer, other: Answer, near: float) -> Answer:
    """The mean by scores where both views see a joint in one place, else the surer view's."""
    a, b = one.scores.clamp(min=0)[..., None], other.scores.clamp(min=0)[..., None]
    mean = (one.joints * a + other.joints * b) / (a + b).clamp(min=1e-9)
    surer = torch.where(a >= b, one.joints, other.joints)
    close = (one.joints - other.joints).norm(dim=-1, keepdim=True) < near
    spread = None
    if one.spread is not None and other.spread is not None:
        spread = torch.where(a >= b, one.spread, other.spread)
    return Answer(torch.where(close, mean, surer), (one.scores + other.scores) / 2, spread)
