"""Two-stage distillation of human pose estimators (arXiv 2508.11212)."""

from importlib.metadata import version
from typing import Any

__all__ = ["load"]
__version__ = version("kdpose")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import :func:`kdpose.load` when it is first asked for: torch takes seconds."""
    if name == "load":
        from kdpose.inference.predictor import load

        return load
    raise AttributeError(f"module 'kdpose' has no attribute '{name}'")
