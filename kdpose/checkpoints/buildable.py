"""What the description in a checkpoint may build: an exact table, read without Hydra or OmegaConf.

A description is plain data that a stranger may have written.  Each name is looked up whole in
:data:`TABLE` (nothing is imported or resolved by it), each key must be one of the constructor's,
and the values are lists, dicts, strings, numbers, booleans and None that are never interpreted.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.movenet import MoveNetPyramid
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.plain import check_plain, check_values, short
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.heads.heatmap import HeatmapHead
from kdpose.heads.simcc import SimCCHead
from kdpose.heads.simcc_maps import SimCCMapsHead
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.skeleton import Skeleton

_SCORES = 2**31  # weights of a head over bins
_WEIGHTS = ("pretrained", "pretrained_file")  # keys of earlier files, where they ask for none
_TARGET, _PARTIAL = "_target_", "_partial_"
_LATER = ("head", "refiner")  # kinds whose other arguments the network around them gives


@dataclass(frozen=True)
class _Part:
    """One class of the table.

    Attributes:
        kind: the place that it fits.
        make: builds it.
        given: arguments that come from the network around it, so never from a file.
        slots: kinds of the parts that it takes by key.
    """

    kind: str
    make: Callable[..., Any]
    given: frozenset[str] = frozenset()
    slots: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """What a description may set."""
        return frozenset(inspect.signature(self.make).parameters) - self.given


_OF_HEAD = frozenset(("in_channels", "num_joints", "feature_size", "bins"))
_OF_REFINER = frozenset(("channels", "strides", "input_size", "num_joints", "limbs"))
_HUB = frozenset(("pretrained",))
_FROM_DICT = _Part("skeleton", Skeleton.from_dict)
_PARTS_OF_NET = {"backbone": "backbone", "head": "head", "codec": "codec", "skeleton": "skeleton"}

TABLE: Mapping[str, _Part] = {
    "kdpose.pose_net.PoseNet": _Part("net", PoseNet, slots=_PARTS_OF_NET),
    "kdpose.pose_net.RefinedPoseNet": _Part(
        "refined", RefinedPoseNet, slots={"student": "net", "refiner": "refiner"}
    ),
    "kdpose.backbones.hrnet.HRNet": _Part("backbone", HRNet, _HUB),
    "kdpose.backbones.movenet.MoveNetPyramid": _Part("backbone", MoveNetPyramid),
    "kdpose.backbones.timm_pyramid.TimmPyramid": _Part("backbone", TimmPyramid, _HUB),
    "kdpose.codecs.heatmap.Heatmap": _Part("codec", Heatmap),
    "kdpose.codecs.simcc.SimCC": _Part("codec", SimCC),
    "kdpose.heads.heatmap.HeatmapHead": _Part("head", HeatmapHead, _OF_HEAD),
    "kdpose.heads.simcc.SimCCHead": _Part("head", SimCCHead, _OF_HEAD),
    "kdpose.heads.simcc_maps.SimCCMapsHead": _Part("head", SimCCMapsHead, _OF_HEAD),
    "kdpose.refiners.igp_gcn.IGPGCN": _Part("refiner", IGPGCN, _OF_REFINER),
    "kdpose.skeletons.skeleton.Skeleton.from_dict": _FROM_DICT,
    # names of earlier versions
    "kdpose.keypoints.Skeleton.from_dict": _FROM_DICT,
}


def build(description: Any, where: str) -> PoseNet | RefinedPoseNet:  # noqa: ANN401
    """The network that a description names, untrained and in memory alone.

    Args:
        description: nested dicts; ``_target_`` is a name of :data:`TABLE`, the other keys are
            arguments of its constructor, and ``_partial_`` marks head and refiner.
        where: names the file, for errors.

    Raises:
        ValueError: it holds or asks for anything else, in one line.
    """
    try:
        check_plain(description)
        kind = "refined" if _is_refined(description) else "net"
        net: PoseNet | RefinedPoseNet = _build(description, kind, "net")
    except Exception as error:  # constructors of torch and timm raise many kinds
        reason = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            reason = f"the network cannot be built ({type(error).__name__}: {reason})"
        raise ValueError(f"{where}: {reason[:400]}") from None
    return net


def _is_refined(description: Any) -> bool:  # noqa: ANN401
    name = description.get(_TARGET) if isinstance(description, dict) else None
    return isinstance(name, str) and name in TABLE and TABLE[name].kind == "refined"


def _build(node: Any, kind: str, key: str) -> Any:  # noqa: ANN401
    """Build the part of one kind that lies under a key."""
    part = _part(node, kind, key)
    values = {k: v for k, v in node.items() if k not in (_TARGET, _PARTIAL)}
    if kind == "backbone":
        values = _without_weights(values, key)
    unknown = sorted(values.keys() - part.keys)
    if unknown:
        known = ", ".join(sorted(part.keys)) or "none"
        raise ValueError(
            f"{key} has the unknown key '{short(unknown[0])}'; {node[_TARGET]} takes {known}"
        )
    check_values({k: v for k, v in values.items() if k not in part.slots}, kind, key)
    built = {
        name: _build(value, part.slots[name], f"{key}.{name}") if name in part.slots else value
        for name, value in values.items()
    }
    if "codec" in built:
        _check_scores(built["codec"], f"{key}.codec")
    return functools.partial(part.make, **built) if kind in _LATER else part.make(**built)


def _part(node: Any, kind: str, key: str) -> _Part:  # noqa: ANN401
    """The entry of the table that a node names."""
    if not isinstance(node, dict) or not isinstance(node.get(_TARGET), str):
        raise ValueError(f"{key} must be a dict with a '{_TARGET}', got a {type(node).__name__}")
    part = TABLE.get(node[_TARGET])
    if part is None:
        raise ValueError(
            f"{key} asks for '{short(node[_TARGET])}', which a checkpoint may not build; "
            "kdpose/checkpoints/buildable.py lists what it may"
        )
    if part.kind != kind:
        raise ValueError(f"{key} asks for {node[_TARGET]}, a {part.kind} where a {kind} belongs")
    if _PARTIAL in node and node[_PARTIAL] is not (kind in _LATER):
        raise ValueError(f"{key}.{_PARTIAL} must be {str(kind in _LATER).lower()}")
    return part


def _without_weights(values: dict[str, Any], key: str) -> dict[str, Any]:
    """The keys of a backbone that has its weights from this file, and from nowhere else."""
    for name in _WEIGHTS:
        if values.get(name):
            raise ValueError(
                f"{key}.{name} asks for weights from elsewhere; a checkpoint holds its own"
            )
    return {name: value for name, value in values.items() if name not in _WEIGHTS}


def _check_scores(codec: Heatmap | SimCC, key: str) -> None:
    """Refuse sizes whose head alone would fill the memory."""
    width, height = codec.input_size
    if isinstance(codec, SimCC) and sum(codec.bins) * (width * height / 16) > _SCORES:
        raise ValueError(f"{key} has {codec.bins} bins for {width}x{height} pixels: too many")
