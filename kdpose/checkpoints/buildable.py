"""What the description in a checkpoint may build: an exact table, read without Hydra or OmegaConf.

A description is plain data that a stranger may have written.  Each name is looked up whole in
:data:`TABLE` (nothing is imported or resolved by it), each key must be one of the constructor's,
and the values are lists, dicts, strings, numbers, booleans and None that are never interpreted.
"""

import functools
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kdpose.checkpoints.plain import check_plain, check_values, short
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.pose_net import PoseNet, RefinedPoseNet

# what may be built, and the place that it fits; a new part of a network is one more line
TABLE = {
    "kdpose.pose_net.PoseNet": "net",
    "kdpose.pose_net.RefinedPoseNet": "refined net",
    "kdpose.backbones.hourglass.Hourglass": "backbone",
    "kdpose.backbones.hrnet.HRNet": "backbone",
    "kdpose.backbones.movenet.MoveNetPyramid": "backbone",
    "kdpose.backbones.timm_map.TimmMap": "backbone",
    "kdpose.backbones.timm_pyramid.TimmPyramid": "backbone",
    "kdpose.backbones.vit.ViT": "backbone",
    "kdpose.codecs.dark.Dark": "codec",
    "kdpose.codecs.heatmap.Heatmap": "codec",
    "kdpose.codecs.regression.Regression": "codec",
    "kdpose.codecs.simcc.SimCC": "codec",
    "kdpose.codecs.udp.UDP": "codec",
    "kdpose.codecs.udp_offsets.UDPOffsets": "codec",
    "kdpose.heads.deconvolutions.DeconvolutionsHead": "head",
    "kdpose.heads.distilpose.DistilPoseHead": "head",
    "kdpose.heads.heatmap.HeatmapHead": "head",
    "kdpose.heads.offset_maps.OffsetMapsHead": "head",
    "kdpose.heads.online_branches.OnlineBranchesHead": "head",
    "kdpose.heads.queries.QueryHead": "head",
    "kdpose.heads.regression.RegressionHead": "head",
    "kdpose.heads.simcc.SimCCHead": "head",
    "kdpose.heads.simcc_maps.SimCCMapsHead": "head",
    "kdpose.heads.tokenpose.TokenPoseHead": "head",
    "kdpose.heads.transpose.TransPoseHead": "head",
    "kdpose.refiners.igp_gcn.IGPGCN": "refiner",
    "kdpose.refiners.opec_net.OPECNet": "refiner",
    "kdpose.skeletons.skeleton.Skeleton.from_dict": "skeleton",
    "kdpose.keypoints.Skeleton.from_dict": "skeleton",  # an earlier name
}
_TODAY = {"kdpose.keypoints.Skeleton.from_dict": "kdpose.skeletons.skeleton.Skeleton.from_dict"}


@dataclass(frozen=True)
class _Kind:
    """A place in a network.

    Attributes:
        given: arguments that come from the network around it, so never from a file.
        slots: kinds of the parts that it takes, by argument.
        later: whether that network completes it.
    """

    given: frozenset[str] = frozenset()
    slots: Mapping[str, str] = field(default_factory=dict)
    later: bool = False


_WEIGHTS = ("pretrained", "pretrained_file")  # keys of earlier files, where they ask for none
_KINDS = {
    "net": _Kind(slots={name: name for name in ("backbone", "head", "codec", "skeleton")}),
    "refined net": _Kind(slots={"student": "net", "refiner": "refiner"}),
    "backbone": _Kind(frozenset(_WEIGHTS)),
    "codec": _Kind(),
    "head": _Kind(frozenset(("in_channels", "num_joints", "feature_size", "bins")), later=True),
    "refiner": _Kind(
        frozenset(("channels", "strides", "input_size", "num_joints", "limbs")), later=True
    ),
    "skeleton": _Kind(),
}
_SCORES = 2**31  # weights of a head over bins
_TARGET, _PARTIAL = "_target_", "_partial_"


def build(description: Any, where: str) -> PoseNet | RefinedPoseNet:
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
        refined = isinstance(description, dict) and TABLE.get(str(description.get(_TARGET)))
        kind = "refined net" if refined == "refined net" else "net"
        net: PoseNet | RefinedPoseNet = _build(description, kind, "net")
    except Exception as error:  # constructors of torch and timm raise many kinds
        reason = " ".join(str(error).split())
        if not isinstance(error, ValueError):
            reason = f"the network cannot be built ({type(error).__name__}: {reason})"
        raise ValueError(f"{where}: {reason[:400]}") from None
    return net


def _build(node: Any, kind: str, key: str) -> Any:
    """Build the part of one kind that lies under a key."""
    place, name = _KINDS[kind], _name(node, kind, key)
    make = pkgutil.resolve_name(_TODAY.get(name, name))  # a name of the table, never the file's
    values = {k: v for k, v in node.items() if k not in (_TARGET, _PARTIAL)}
    if kind == "backbone":
        values = _without_weights(values, key)
    keys = inspect.signature(make).parameters.keys() - place.given
    unknown = sorted(values.keys() - keys)
    if unknown:
        known = ", ".join(sorted(keys)) or "none"
        raise ValueError(f"{key} has the unknown key '{short(unknown[0])}'; {name} takes {known}")
    check_values({k: v for k, v in values.items() if k not in place.slots}, kind, key)
    built = {
        k: _build(v, place.slots[k], f"{key}.{k}") if k in place.slots else v
        for k, v in values.items()
    }
    if "codec" in built:
        _check_scores(built["codec"], f"{key}.codec")
    return functools.partial(make, **built) if place.later else make(**built)


def _name(node: Any, kind: str, key: str) -> str:
    """The name in the table that a node asks for."""
    if not isinstance(node, dict) or not isinstance(node.get(_TARGET), str):
        raise ValueError(f"{key} must be a dict with a '{_TARGET}', got a {type(node).__name__}")
    name: str = node[_TARGET]
    if name not in TABLE:
        raise ValueError(
            f"{key} asks for '{short(name)}', which a checkpoint may not build; "
            "kdpose/checkpoints/buildable.py lists what it may"
        )
    if TABLE[name] != kind:
        raise ValueError(f"{key} asks for {name}, a {TABLE[name]} where a {kind} belongs")
    later = _KINDS[kind].later
    if _PARTIAL in node and node[_PARTIAL] is not later:
        raise ValueError(f"{key}.{_PARTIAL} must be {str(later).lower()}")
    return name


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
