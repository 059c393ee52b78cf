"""Pose networks of any project as ONNX files: what goes in and comes out is recognised."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdpose.checkpoints.guest_net import GuestCodec, GuestNet, file_hash
from kdpose.checkpoints.onnx_maps import feature_maps, with_output
from kdpose.checkpoints.onnx_outputs import (
    Found,
    Kind,
    Order,
    Reading,
    Unit,
    recognise,
    within_one,
)
from kdpose.runtime.onnx_session import open_session
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import Answer

_log = logging.getLogger(__name__)
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, of 0..255
_DETECTOR_MEAN, _DETECTOR_STD = (0, 0, 0), (255, 255, 255)  # YOLO's
_TYPES: dict[str, Any] = {
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
}


class OnnxNet(GuestNet):
    """An ONNX file that finds the joints of one person in a crop, run by onnxruntime.

    Recognised by names and shapes, unless it is set: the input's layout (NCHW or NHWC), type, size
    and batch; and the output: a pair of SimCC bins, heatmaps, keypoints (coordinates and score),
    detections with keypoints (of which the one that fits the crop's person is taken), or joints
    beside scores, as kdpose exports them.

    Args:
        file: the ONNX file.
        skeleton: of its joints.
        input_size: W, H, where the file leaves its size open.
        padding: the crop's size relative to the box; None: 1.1 for keypoints of an NHWC network, as
            MoveNet is used, else 1.25.
        output: kind of output; None: recognised.
        order: of keypoints' values; None: y, x, score for NHWC networks, else x, y, score.
        unit: of keypoints: ``crop``, in 0..1, or ``pixel``; None: found by a trial.
        channels: ``rgb`` or ``bgr``.
        mean: of a float input, subtracted from 0..255; None: ImageNet's, for detections 0.
        std: of a float input; None: ImageNet's, for detections 255.
        sure: the score of a joint that it has no doubt of: softmax over SimCC's bins gives less
            than 1.
        threads: of the runtime; 0: all cores.
        feature: the inner tensor that Eq. 1 compares, a map of channels.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: onnxruntime cannot read the file, or its input or output is not
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
        sure: float = 1.0,
        threads: int = 0,
        feature: str | None = None,
    ) -> None:
        super().__init__()
        self.file, self.skeleton, self.sure = Path(file).absolute(), skeleton, sure
        self.name, self.where = self.file.stem, f"{self.file} (from teacher.file)"
        self.session = open_session(self.file, self.where, threads)
        self._read_input(input_size)
        self.bgr = channels == "bgr"
        self._normalise(mean, std, output)
        self._names = [value.name for value in self.session.get_outputs()]
        self.feature_name: str | None = None
        found = self._trial()
        kind = output or recognise(found, len(skeleton))
        if output not in (None, *get_args(Kind)):
            raise ValueError(f"teacher.output must be one of {get_args(Kind)}, got {output}")
        if kind is None:
            raise ValueError(self._misfit(found))
        self._normalise(mean, std, kind)
        self.padding = padding or (1.1 if self.nhwc and kind == "keypoints" else 1.25)
        self._read_output(self._trial(), kind, order, unit)
        if feature is not None:
            self._open_feature(feature, threads)
        _log.info("%s: %s", self.where, self)

    def __str__(self) -> str:
        """What was recognised."""
        width, height = self.codec.input_size
        layout, read = "NHWC" if self.nhwc else "NCHW", self.reading
        located = read.kind in ("keypoints", "detections")
        order = f" ({read.order}, {read.unit})" if located else ""
        return (
            f"{read.kind}{order} of {len(self.skeleton)} joints ({self.skeleton.name}) from "
            f"{layout} {self.pixel_type.name} {width}x{height}, batch "
            f"{self.batch or 'free'}, padding {self.padding:g}"
        )

    def look(self, image: Tensor) -> Answer:
        """What the network answers of crops ``(B, 3, H, W)``, uint8 RGB."""
        return self.reading(self._run(image.permute(0, 2, 3, 1).cpu().numpy()))

    def fingerprint(self) -> str:
        """A hash of the file and of how it is read."""
        return f"{file_hash(self.file)} {self}"

    def feature_maps(self) -> list[str]:
        """Names and shapes of inner maps of stride 4."""
        return feature_maps(self.file, self.codec.input_size)

    def feature(self, image: Tensor) -> Tensor | None:
        """The inner map ``(B, C, h, w)`` of crops, where ``feature`` names one."""
        if self.feature_name is None:
            return None
        found = self._run(image.permute(0, 2, 3, 1).cpu().numpy(), [self.feature_name])
        values = torch.from_numpy(found[self.feature_name]).to(image.device).float()
        return values.permute(0, 3, 1, 2) if self.feature_last else values

    def _open_feature(self, name: str, threads: int) -> None:
        """Read an inner tensor as well; channels first or last, as its sides tell.

        Raises:
            ValueError: there is no such tensor, or it is no map of channels.
        """
        width, height = self.codec.input_size
        content = with_output(self.file, name, self.where, self.codec.input_size)
        self.session = open_session(self.file, self.where, threads, content)
        shape = self._run(np.zeros((1, height, width, 3), np.uint8), [name])[name].shape
        sides = [shape[2:], shape[1:3]]  # of channels first, and last
        fits = [len(shape) == 4 and s[0] * width == s[1] * height for s in sides]
        if not any(fits):
            raise ValueError(
                f"{self.where}: {name} (teacher.feature) has shape {shape}, which is no map of a "
                f"{width}x{height} crop; of stride 4: {', '.join(self.feature_maps()) or 'none'}"
            )
        self.feature_name, self.feature_last = name, not fits[0]

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
        self.codec = GuestCodec((width, height))

    def _normalise(
        self, mean: Sequence[float] | None, std: Sequence[float] | None, kind: Kind | None
    ) -> None:
        usual = (_DETECTOR_MEAN, _DETECTOR_STD) if kind == "detections" else (_MEAN, _STD)
        self.mean = np.array(usual[0] if mean is None else mean, np.float32)
        self.std = np.array(usual[1] if std is None else std, np.float32)

    def _read_output(
        self, found: Found, kind: Kind, order: Order | None, unit: Unit | None
    ) -> None:
        """Set how outputs are read, and refuse those that do not read as their kind."""
        count, size = len(self.skeleton), self.codec.input_size
        try:
            unit = unit or ("crop" if within_one(found, kind, count) else "pixel")
            order = order or ("yxs" if self.nhwc else "xys")
            self.reading = Reading(kind, count, size, self.padding, order, unit)
            pose = self.reading(found)
        except (KeyError, ValueError, IndexError, RuntimeError):
            raise ValueError(self._misfit(found)) from None
        if tuple(pose.joints.shape) != (1, count, 2):
            raise ValueError(self._misfit(found))

    def _trial(self) -> dict[str, Any]:
        """The outputs for a crop of noise."""
        width, height = self.codec.input_size
        noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
        return self._run(noise)

    def _run(self, crops: NDArray[np.uint8], names: Sequence[str] | None = None) -> dict[str, Any]:
        """Outputs by name of crops ``(B, H, W, 3)``, in batches that the file takes."""
        wanted = names or self._names
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
            found = self.session.run(wanted, {self.input: fed})
            parts.append([np.atleast_1d(value)[: len(part)] for value in found])
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return dict(zip(wanted, columns, strict=True))

    def _misfit(self, found: Mapping[str, Any]) -> str:
        seen = ", ".join(f"{name} {value.shape}" for name, value in found.items())
        return (
            f"{self.where} gives {seen}, which is no SimCC pair, heatmap, keypoints, detections or "
            f"joints of the {len(self.skeleton)} joints of '{self.skeleton.name}': set "
            "teacher.output or teacher.skeleton"
        )
