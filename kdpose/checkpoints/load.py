"""Checkpoints: weights and what rebuilds the network around them.

Our own describe themselves and hold tensors and plain values only, so that
``torch.load(weights_only=True)`` reads them; others are recognised by their tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdpose.backbones.hrnet import HRNet
from kdpose.checkpoints.buildable import build
from kdpose.checkpoints.foreign import HRNetFile, looks_like, recipe, recognise
from kdpose.checkpoints.plain import check_plain
from kdpose.checkpoints.tensors import announce, check_share, fit, read_checkpoint, share, tensors
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.files import check_checkpoint, located

KEY = "kdpose"  # under which a checkpoint describes itself
SHIPPED = Path(__file__).parent / "bundled" / "student.ckpt"  # the one that comes with kdpose


def chosen(ckpt: str | Path | None) -> Path:
    """The checkpoint that is named, else the student that comes with kdpose.

    Raises:
        FileNotFoundError: none is named, and this installation came without a student.
    """
    if not ckpt and not SHIPPED.is_file():
        raise FileNotFoundError(
            f"no checkpoint is named, and kdpose came without its own student ({SHIPPED}): "
            "set ckpt=PATH, or kdpose.load(PATH)"
        )
    return Path(ckpt or SHIPPED)


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, and what its checkpoint says of it.

    Attributes:
        net: in eval mode.
        description: ``net`` (the configuration that builds it), ``dataset`` (name, protocol,
            validation and training files; empty where another project wrote it),
            ``experiment``, and ``project``, that other one.
    """

    net: PoseNet | RefinedPoseNet
    description: dict[str, Any]


def load_net(
    path: str | Path,
    key: str = "ckpt",
    *,
    skeleton: str | None = None,
    input_size: Sequence[int] = (192, 256),
    label: str | None = None,
) -> Loaded:
    """Rebuild the network of a checkpoint from the file alone, whichever project wrote it.

    A checkpoint of kdpose describes itself; one of another project is recognised by its tensors
    (:mod:`kdpose.checkpoints.foreign`), and what these cannot tell is given here.

    Args:
        path: of the checkpoint.
        key: config key that the path came from, for errors.
        skeleton: annotation JSON that names the joints of a foreign network; None is COCO's at 17
            joints and CrowdPose's at 14.
        input_size: of a foreign heatmap network, ``(W, H)`` pixels.
        label: ``smooth`` or ``gaussian``, what a foreign SimCC network was trained on; None is its
            project's habit.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is not a checkpoint of a known pose network, or does not fit.
    """
    content = read_checkpoint(path, key)
    where = f"{Path(path).absolute()} (from {key})"
    if KEY in content:
        return _load_own(content, where)
    file = _recognise(tensors(content, where), where)
    options = f"{key.rpartition('.')[0]}." if "." in key else ""
    width, height = input_size
    described = recipe(file, where, options, skeleton, (width, height), label)
    net = build(described, where)
    assert isinstance(net, PoseNet)
    fit(net, _named(file), f"{file}, {_facts(net)}", key, where)
    described = {"net": described, "dataset": {}, "experiment": Path(path).stem}
    return Loaded(net.eval(), {**described, "project": file.project})


def _named(file: HRNetFile) -> dict[str, Tensor]:
    """A foreign network's weights under our names."""
    named = {f"backbone.body.{n}": v for n, v in file.backbone.items()}
    return named | {f"head.{n}": v for n, v in file.head.items()}


def _recognise(weights: dict[str, Tensor], where: str) -> HRNetFile:
    """Refuse what is no HRNet by the share of its tensor names, the same at every width."""
    file = recognise(weights)
    if file is not None:
        return file
    with torch.device("meta"):
        count, missing = share(HRNet("hrnet_w32").body, weights)
    check_share(count, missing, looks_like(weights), where)
    raise ValueError(f"{where} looks like {looks_like(weights)}, which is not read")


def _facts(net: PoseNet) -> str:
    """Joints and input size, for a report."""
    size = "x".join(map(str, net.codec.input_size))
    return f"{len(net.skeleton)} joints ({net.skeleton.name}), {size}"


def _load_own(content: dict[str, Any], where: str) -> Loaded:
    """Rebuild what a checkpoint of kdpose describes; every tensor must be there."""
    description = _description(content, where)
    net = build(description["net"], where)
    prefix = "net."
    weights = {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    own = net.state_dict()
    missing, unexpected = ([*(a.keys() - b.keys())] for a, b in ((own, weights), (weights, own)))
    if missing or unexpected:
        raise ValueError(
            f"{where} does not fit its description: {len(missing)} tensors missing "
            f"{sorted(missing)[:2]}, {len(unexpected)} unexpected {sorted(unexpected)[:2]}"
        )
    for name, value in weights.items():
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if shape != tuple(own[name].shape):
            raise ValueError(
                f"{where} does not fit its description: {name} is {shape} where the network has "
                f"{tuple(own[name].shape)}"
            )
    net.load_state_dict(weights)
    return Loaded(net.eval(), description)


def _description(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a checkpoint says of itself, plain values throughout."""
    description = content[KEY]
    try:
        check_plain(description)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    parts = {f"'{KEY}'": description, "'state_dict'": content.get("state_dict")}
    if isinstance(description, dict):
        description = {"dataset": {}, **description}
        parts |= {f"'{KEY}.{name}'": description.get(name) for name in ("net", "dataset")}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise ValueError(f"{where}: its {name} must be a dict, got a {type(part).__name__}")
    return {**description, "dataset": located(description["dataset"])}


def load_teacher(
    ckpt: str,
    skeleton: str | None = None,
    input_size: Sequence[int] = (192, 256),
    label: str | None = None,
) -> PoseNet:
    """The teacher of a run, from its checkpoint; the options are those of :func:`load_net`.

    Raises:
        FileNotFoundError: the file is not there, with the command that makes it.
        ValueError: it holds no network that can teach.
    """
    options = {"skeleton": skeleton, "input_size": input_size, "label": label}
    loaded = load_made_by_run(ckpt, "teacher.ckpt", **options)
    net = loaded.net
    if not isinstance(net, PoseNet):
        raise ValueError(f"{Path(ckpt).absolute()} (from teacher.ckpt) is a refined student")
    if "project" not in loaded.description:  # one of another project has told what it is on loading
        what = f"kdpose {loaded.description.get('experiment', 'network')}, {_facts(net)}"
        announce("teacher.ckpt", what, share(net, net.state_dict())[0], [])
    return net


def load_made_by_run(path: str | Path, key: str, **options: Any) -> Loaded:
    """Load what an earlier experiment left; where it is missing, say which command makes it.

    Args:
        path: of the checkpoint.
        key: config key that the path came from.
        options: of :func:`load_net`, for a file of another project.

    Raises:
        FileNotFoundError: the file is not there.
    """
    return load_net(check_checkpoint(path, key), key, **options)
