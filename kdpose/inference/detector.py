"""Person detectors: torchvision's, with its own weights or a local file, or the bundled one."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from kdpose.checkpoints.torchvision_nets import (
    cached_weights,
    detection_names,
    load_detection_net,
)
from kdpose.inference.multipose import Boxes, MultiPoseDetector

_PERSON = 1  # COCO's category in torchvision's labels
_BUNDLED = "multipose"
_USUAL = "fasterrcnn_mobilenet_v3_large_fpn"  # of torchvision's, the fastest on a CPU
_PIXELS = 2**23  # of a picture; larger ones are scaled down first
_THRESHOLD, _BUNDLED_THRESHOLD = 0.5, 0.1  # their scores mean different things
Detector = Callable[[Image.Image], Boxes]


class DetectorChoice(NamedTuple):
    """A detector with all defaults filled in.

    Attributes:
        name: ``multipose``, the bundled one, or torchvision's name.
        weights: a local file, or None.
        threshold: boxes with a lower score are left out.
    """

    name: str
    weights: str | None
    threshold: float


def choose_detector(
    name: str = "auto", weights: str | None = None, threshold: float | None = None
) -> DetectorChoice:
    """Fill in the defaults of a detector.

    Args:
        name: ``auto`` is torchvision's fastest where ``weights`` are given or its own are on this
            machine, else the bundled one.
        weights: a local file for torchvision's detector.
        threshold: on the scores; None is the detector's default.

    Raises:
        ValueError: there is no such detector, or the bundled one is given other weights.
    """
    if name == "auto":
        name = _USUAL if weights or cached_weights(_USUAL).is_file() else _BUNDLED
    if name == _BUNDLED and weights:
        raise ValueError(f"detector.weights={weights} needs a torchvision detector.name")
    usual = _BUNDLED_THRESHOLD if name == _BUNDLED else _THRESHOLD
    return DetectorChoice(name, weights, usual if threshold is None else threshold)


class PersonDetector:
    """Finds persons' boxes.

    Args:
        model: maps a list of ``(3, H, W)`` pictures in 0..1 to dicts of ``boxes (N, 4)`` as
            corners, ``labels (N,)`` and ``scores (N,)``, as torchvision's models do.
        device: to run on.
        threshold: boxes with a lower score are left out.
    """

    def __init__(self, model: nn.Module, device: torch.device, threshold: float = 0.5) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.threshold = threshold

    @torch.inference_mode()
    def __call__(self, picture: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes ``(P, 4)`` x, y, width, height in image pixels, best first, and scores ``(P,)``."""
        large = max(1.0, (picture.width * picture.height / _PIXELS) ** 0.5)
        if large > 1:  # the model would scale it down, once it has taken 24 bytes a pixel
            small = round(picture.width / large), round(picture.height / large)
            scale = picture.width / small[0], picture.height / small[1]
            picture = picture.resize(small, reducing_gap=2)
        image = pil_to_tensor(picture).to(self.device).float() / 255
        found = self.model([image])[0]
        kept = (found["labels"] == _PERSON) & (found["scores"] >= self.threshold)
        boxes = found["boxes"][kept].float().cpu()
        if large > 1:
            boxes *= torch.tensor(scale * 2)
        boxes[:, 2:] -= boxes[:, :2]
        solid = (boxes[:, 2:] > 0).all(dim=1)
        return boxes[solid].numpy(), found["scores"][kept].float().cpu()[solid].numpy()


def load_detector(choice: DetectorChoice, device: torch.device) -> Detector:
    """Load a detector.

    Args:
        choice: from :func:`choose_detector`.
        device: of torchvision's detectors; the bundled one is onnxruntime's.

    Raises:
        FileNotFoundError: the file does not exist, or the weights cannot be downloaded.
        ValueError: there is no such detector, or the file does not fit it.
    """
    name, weights, threshold = choice
    if name == _BUNDLED:
        return MultiPoseDetector(threshold)
    _check_name(name)
    instead = f", or use detector.name={_BUNDLED}"
    net = load_detection_net(name, weights, "detector.weights", instead)
    return PersonDetector(net, device, threshold)


def _check_name(name: str) -> None:
    known = detection_names()
    if name not in known:
        raise ValueError(
            f"detector.name must be one of {_BUNDLED}, {', '.join(known)}, got '{name}'"
        )
