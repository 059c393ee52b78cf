"""Two-stage distillation of human pose estimators (arXiv 2508.11212)."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdpose.inference.poses import ImagePoses
    from kdpose.inference.predictor import Predictor, load
    from kdpose.pose_net import PoseNet, RefinedPoseNet
    from kdpose.skeletons.files import read_skeleton
    from kdpose.skeletons.skeleton import Skeleton

    __version__: str

__all__ = [
    "ImagePoses",
    "PoseNet",
    "Predictor",
    "RefinedPoseNet",
    "Skeleton",
    "__version__",
    "load",
    "read_skeleton",
]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

_MODULES = {
    "ImagePoses": "kdpose.inference.poses",
    "PoseNet": "kdpose.pose_net",
    "Predictor": "kdpose.inference.predictor",
    "RefinedPoseNet": "kdpose.pose_net",
    "Skeleton": "kdpose.skeletons.skeleton",
    "load": "kdpose.inference.predictor",
    "read_skeleton": "kdpose.skeletons.files",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, because torch takes seconds to import."""
    if name == "__version__":
        return import_module("importlib.metadata").version("kdpose")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'kdpose' has no attribute '{name}'")


def __dir__() -> list[str]:
    """Include the names that are not imported yet."""
    return sorted({*globals(), *__all__})
