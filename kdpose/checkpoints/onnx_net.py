"""Pose networks of any project as ONNX files: what goes in and comes out is recognised."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor, nn

from kdpose.codecs.heatmap import Heatmap
from kdpose.runtime.onnx_session import open_session
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Pose

_log = logging.getLogger(__name__)
Kind = Literal["simcc", "heatmap", "keypoints", "joints"]
Order = Literal["xys", "yxs"]
Unit = Literal["pixel", "crop"]
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of 0..255
_TYPES: dict[str, Any] = {
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
}
_NEAR = 0.05  # crop sides within which the mirrored answer is the same joint
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class OnnxCodec:
    """What evaluation asks of a codec.

    Attributes:
        input_size: W, H of the crop.
        score_threshold: joint scores up to this do not enter a person's score.
        flip_shift: bins by which the mirrored view moves: none.
    """

    input_size: tuple[int, int]
    score_threshold: float = 0.2
    flip_shift: float = 0.0


class OnnxNet(nn.Module):
    """An ONNX file that finds the joints of one person in a crop, run by onnxruntime.

    Recognised by names and shapes, unless it is set: the input's layout (NCHW or NHWC), type, size
    and batch; and the output: a pair of SimCC bins, heatmaps, keypoints (coordinates and score), or
    joints beside scores, as kdpose exports them.

    Args:
        file: the ONNX file.
        skeleton: of its joints.
        input_size: W, H, where the file leaves its size open.
        padding: the crop's size relative to the box; None: 1.1 for keypoints of an NHWC network, as
            MoveNet is used, else 1.25.
        output: kind of output; None: recognised.
        order: of keypoints' values; None: y, x, score for NHWC networks, else x, y, score.
        unit: of keypoints: ``crop``, in 0..1, or ``pixel``; None: told by a trial.
        channels: ``rgb`` or ``bgr``.
        mean: of a float input, subtracted from 0..255; None: ImageNet's.
        std: of a float input; None: ImageNet's.
        threads: of the runtime; 0: all cores.

    Attributes:
        codec: sizes and thresholds.
        padding: see above.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: onnxruntime is missing or cannot read the file, or its input or output is not
            one of these.
    """

    def __init__(
        self,
        file: str,
        skeleton: Skeleton = COCO,
        input_size: Sequence[int] | None = None,
        padding: float | None = None,
        output: Kind | None = None,
        order: Order | None = None,
        unit: Unit | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        threads: int = 0,
    ) -> None:
        super().__init__()
        self.file, self.skeleton = Path(file).absolute(), skeleton
        self.where = f"{self.file} (from teacher.file)"
        self.session = open_session(self.file, self.where, threads)
        self._read_input(input_size)
        self.bgr = channels == "bgr"
        self.mean = np.array(_MEAN if mean is None else mean, np.float32)
        self.std = np.array(_STD if std is None else std, np.float32)
        self._names = [value.name for value in self.session.get_outputs()]
        width, height = self.codec.input_size
        noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        found = self._run(noise)
        self.kind: Kind = output or self._recognise(found)
        if self.kind not in get_args(Kind):
            raise ValueError(f"teacher.output must be one of {get_args(Kind)}, got {output}")
        self.order: Order = order or ("yxs" if self.nhwc else "xys")
        self.unit: Unit = unit or ("crop" if self._within_one(found) else "pixel")
        self.padding = padding or (1.1 if self.nhwc and self.kind == "keypoints" else 1.25)
        self._check(found)
        _log.info("%s: %s", self.where, self)

    def __str__(self) -> str:
        """What was recognised."""
        width, height = self.codec.input_size
        layout = "NHWC" if self.nhwc else "NCHW"
        order = f" ({self.order}, {self.unit})" if self.kind == "keypoints" else ""
        return (
            f"{self.kind}{order} of {len(self.skeleton)} joints ({self.skeleton.name}) from "
            f"{layout} {self.pixel_type.name} {width}x{height}, batch "
            f"{self.batch or 'free'}, padding {self.padding:g}"
        )

    def pose(self, image: Tensor, flip: bool = False) -> Pose:
        """Joints in crop pixels and scores.

        Args:
            image: ``(B, 3, H, W)`` uint8 RGB.
            flip: average with the mirrored crop.
        """
        crops = image.permute(0, 2, 3, 1).cpu().numpy()
        pose = self._decode(self._run(crops))
        if flip:
            mirrored = self._decode(self._run(crops[:, :, ::-1]))
            pose = _merged(
                pose,
                _unflipped(mirrored, self.skeleton, self.codec.input_size[0]),
                near=_NEAR * max(self.codec.input_size),
            )
        return pose

    def _read_input(self, input_size: Sequence[int] | None) -> None:
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        seen = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or inputs[0].type not in _TYPES:
            raise ValueError(
                f"{self.where}: needs one input of images, uint8, int32 or float, NCHW or NHWC; "
                f"this has {seen}"
            )
        self.input, self.pixel_type = inputs[0].name, np.dtype(_TYPES[inputs[0].type])
        self.nhwc = shape[3] == 3
        self.batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else 0
        height, width = shape[1:3] if self.nhwc else shape[2:]
        if input_size is not None:
            width, height = input_size
        if not isinstance(width, int) or not isinstance(height, int):
            raise ValueError(f"{self.where} leaves its size open ({seen}): set teacher.input_size")
        self.codec = OnnxCodec((width, height))

    def _run(self, crops: NDArray[np.uint8]) -> dict[str, Floats]:
        """Outputs by name of crops ``(B, H, W, 3)``, in batches that the file takes."""
        pixels: Any = crops[..., ::-1] if self.bgr else crops
        if self.pixel_type == np.float32:
            pixels = (pixels - self.mean) / self.std
        if not self.nhwc:
            pixels = pixels.transpose(0, 3, 1, 2)
        pixels = np.ascontiguousarray(pixels, self.pixel_type)
        step = self.batch or len(pixels)
        parts = []
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            lacking = step - len(part)
            fed = np.concatenate([part, np.repeat(part[-1:], lacking, 0)]) if lacking else part
            found = self.session.run(None, {self.input: fed})
            parts.append([np.asarray(value)[: len(part)] for value in found])
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return dict(zip(self._names, columns, strict=True))

    def _recognise(self, found: Mapping[str, Floats]) -> Kind:
        count, shapes = len(self.skeleton), [value.shape for value in found.values()]
        if {"joints", "scores"} <= set(found):
            return "joints"
        if len(shapes) == 2 and all(len(s) == 3 and s[1] == count for s in shapes):
            return "simcc"
        if shapes and shapes[0][-2:] == (count, 3):
            return "keypoints"
        if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == count:
            return "heatmap"
        raise ValueError(self._misfit(found))

    def _check(self, found: Mapping[str, Floats]) -> None:
        """Refuse outputs that do not read as the kind that was set."""
        try:
            pose = self._decode(found)
        except (KeyError, ValueError, IndexError, RuntimeError):
            raise ValueError(self._misfit(found)) from None
        if tuple(pose.joints.shape) != (1, len(self.skeleton), 2):
            raise ValueError(self._misfit(found))

    def _misfit(self, found: Mapping[str, Floats]) -> str:
        seen = ", ".join(f"{name} {value.shape}" for name, value in found.items())
        return (
            f"{self.where} gives {seen}, which is no SimCC pair, heatmap, keypoints or joints of "
            f"the {len(self.skeleton)} joints of '{self.skeleton.name}': set teacher.output or "
            "teacher.skeleton"
        )

    def _within_one(self, found: Mapping[str, Floats]) -> bool:
        if self.kind != "keypoints":
            return False
        points = next(iter(found.values())).reshape(-1, len(self.skeleton), 3)
        return bool(np.abs(points[..., :2]).max() < 2)

    def _decode(self, found: Mapping[str, Floats]) -> Pose:
        values, (width, height) = list(found.values()), self.codec.input_size
        if self.kind == "joints":
            return Pose(torch.from_numpy(found["joints"]), torch.from_numpy(found["scores"]))
        if self.kind == "simcc":
            x, y = (found.get(name, values[i]) for i, name in enumerate(("simcc_x", "simcc_y")))
            places = [x.argmax(-1) * width / x.shape[-1], y.argmax(-1) * height / y.shape[-1]]
            stacked = torch.from_numpy(np.stack(places, -1).astype(np.float32))
            return Pose(stacked, torch.from_numpy(np.minimum(_certainty(x), _certainty(y))))
        if self.kind == "heatmap":
            return Heatmap(self.codec.input_size).decode(torch.from_numpy(values[0]))
        points = values[0].reshape(-1, len(self.skeleton), 3)
        joints, scores = points[..., :2], points[..., 2]
        joints = joints[..., ::-1] if self.order == "yxs" else joints
        if self.unit == "crop":
            joints = joints * np.array([width, height], np.float32) - 0.5  # edges to pixel centres
        return Pose(torch.from_numpy(joints.copy()), torch.from_numpy(scores.copy()))


@dataclass(frozen=True)
class LoadedOnnx:
    """An ONNX file in the place of a checkpoint.

    Attributes:
        net: the network.
        description: what a checkpoint would say; of data, nothing.
    """

    net: OnnxNet
    description: dict[str, Any] = field(default_factory=lambda: {"dataset": {}})


def open_onnx(teacher: Mapping[str, Any]) -> OnnxNet:
    """The network that ``conf/teacher/onnx.yaml``'s keys describe, without those of training.

    Raises:
        FileNotFoundError: see :class:`OnnxNet`.
        ValueError: see there, or the keys describe another kind of teacher.
    """
    known = set(inspect.signature(OnnxNet.__init__).parameters) - {"self"}
    if not known <= set(teacher):
        raise ValueError(
            "only teacher=onnx is a network to run here: a checkpoint is given by ckpt=PATH, "
            "poses are scored by predictions=FILE"
        )
    keys = {key: teacher[key] for key in known if key != "skeleton"}
    return OnnxNet(**keys, skeleton=instantiate(teacher["skeleton"]))


def _certainty(scores: Floats) -> Floats:
    """``(B, K)``: the best bin's value; of logits, its probability."""
    best = scores.max(-1)
    if best.max() <= 1.5:
        return best.clip(0, 1)
    return np.asarray(1 / np.exp(scores - best[..., None]).sum(-1), np.float32)


def _unflipped(pose: Pose, skeleton: Skeleton, width: int) -> Pose:
    """The mirrored crop's pose in the crop's own frame."""
    order = list(skeleton.flip_order)
    joints = torch.stack([width - 1 - pose.joints[..., 0], pose.joints[..., 1]], -1)
    return Pose(joints[:, order], pose.scores[:, order])


def _merged(one: Pose, other: Pose, near: float) -> Pose:
    """The mean by scores where both views see a joint in one place, else the surer view's."""
    a, b = one.scores.clamp(min=0)[..., None], other.scores.clamp(min=0)[..., None]
    mean = (one.joints * a + other.joints * b) / (a + b).clamp(min=1e-9)
    surer = torch.where(a >= b, one.joints, other.joints)
    close = (one.joints - other.joints).norm(dim=-1, keepdim=True) < near
    return Pose(torch.where(close, mean, surer), (one.scores + other.scores) / 2)
