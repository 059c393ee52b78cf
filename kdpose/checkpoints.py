"""Checkpoints that describe themselves: weights and what rebuilds the network around them.

A file holds tensors and plain values only, so that ``torch.load(weights_only=True)`` reads it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from kdpose.pose_net import PoseNet, RefinedPoseNet

KEY = "kdpose"  # under which a checkpoint describes itself


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, and what its checkpoint says of it.

    Attributes:
        net: in eval mode.
        description: ``net`` (the configuration that builds it), ``dataset`` (name, protocol,
            validation files), ``experiment``, ``versions``.
    """

    net: PoseNet | RefinedPoseNet
    description: dict[str, Any]


def read_checkpoint(path: str | Path, key: str = "ckpt") -> dict[str, Any]:
    """Read a file of tensors and plain values.

    Args:
        path: of the file.
        key: config key that the path came from, for the error.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is something else, with what it starts with.
    """
    path = Path(path)
    where = f"{path.absolute()} (from {key})"
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {where}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, none of which names the file
        with path.open("rb") as file:
            start = file.read(24)
        raise ValueError(
            f"{where} is no checkpoint of tensors and plain values: it starts with {start!r} "
            f"({type(error).__name__})"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds a {type(content).__name__} where a checkpoint is a dict")
    return content


def load_net(path: str | Path, key: str = "ckpt") -> Loaded:
    """Rebuild the network of a kdpose checkpoint from the file alone.

    Args:
        path: of the checkpoint.
        key: config key that the path came from, for errors.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no kdpose checkpoint, or its weights do not fit its description.
    """
    content = read_checkpoint(path, key)
    where = f"{Path(path).absolute()} (from {key})"
    if KEY not in content:
        raise ValueError(f"{where} was not written by kdpose: it does not describe its network")
    description = content[KEY]
    _refuse_foreign_code(description["net"], where)
    net = instantiate(description["net"], _convert_="all")
    prefix = "net."
    weights = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
    missing, unexpected = net.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"{where} does not fit its description: {len(missing)} tensors missing "
            f"{missing[:2]}, {len(unexpected)} unexpected {unexpected[:2]}"
        )
    return Loaded(net.eval(), description)


def load_teacher(ckpt: str) -> PoseNet:
    """The teacher of a run, from its checkpoint.

    Raises:
        FileNotFoundError: the file is not there, with the command that makes it.
        ValueError: it is no SimCC network.
    """
    net = load_made_by_run(ckpt, "teacher.ckpt").net
    if not isinstance(net, PoseNet):
        raise ValueError(f"{Path(ckpt).absolute()} (from teacher.ckpt) is a refined student")
    return net


def load_made_by_run(path: str | Path, key: str) -> Loaded:
    """Load what an earlier experiment left; where it is missing, say which command makes it.

    Raises:
        FileNotFoundError: the file is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {path.absolute()} (from {key}); make it by "
            f"`python -m kdpose.train +experiment={path.parent.name}` or set {key}=PATH"
        )
    return load_net(path, key)


def _refuse_foreign_code(node: Any, where: str) -> None:  # noqa: ANN401
    """A description names classes to build; a file from elsewhere must not name others."""
    if isinstance(node, dict):
        target = str(node.get("_target_", "kdpose."))
        if not target.startswith("kdpose."):
            raise ValueError(f"{where} asks to run '{target}', which is not part of kdpose")
        for value in node.values():
            _refuse_foreign_code(value, where)
    elif isinstance(node, list):
        for value in node:
            _refuse_foreign_code(value, where)
