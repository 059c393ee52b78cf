"""Pose networks of other projects, recognised by the names and shapes of their tensors.

The official HRNet and SimCC code, mmpose 0.x and 1.x and timm name an HRNet's tensors alike; they
differ in prefixes, in the head, and in whether the last module fuses all of its outputs.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

_BACKBONE = re.compile(r"^(?:conv[12]|bn[12]|layer1|transition[123]|stage[234])\.")
# of an ImageNet classifier; the name of its final_layer is also that of a pose head
_CLASSIFIER = re.compile(r"^(?:incre_modules|downsamp_modules|final_layer\.[01]|classifier)\.")
_NO_WEIGHTS = re.compile(r"^data_preprocessor\.")
_MAPS = {"final_layer.weight", "final_layer.bias"}
_BINS = {f"mlp_head_{axis}.{kind}" for axis in "xy" for kind in ("weight", "bias")}
_STRIDE = 4  # crop pixels per cell of the map that a head reads

_OTHERS = {  # what a name tells of networks that are not loaded
    r"(?:^|\.)blocks\.\d+\.attn\.": "a ViT (ViTPose)",
    r"(?:^|\.)encoder\.layer\.\d+\.attention\.": "a ViT of Hugging Face (ViTPose)",
    r"(?:^|\.)layers\.\d+\.(?:attn|ln1)\b": "a ViT of mmpretrain (ViTPose)",
    r"(?:^|\.)layers\.\d+\.blocks\.": "a Swin transformer",
    r"(?:^|\.)gau\.": "RTMPose",
    r"(?:^|\.)stem\.\d+\.conv\.": "a CSPNeXt (RTMPose)",
    r"(?:^|\.)deconv_layers\.": "a network with a deconvolution head (SimpleBaseline, HigherHRNet)",
    r"(?:^|\.)layer4\.\d+\.conv1\.": "a ResNet",
    r"(?:^|\.)conv_stem\.": "a MobileNet or EfficientNet of timm",
    r"(?:^|\.)features\.\d+\.": "a MobileNet of torchvision",
    r"(?:^|\.)stages[._]\d+\.": "a ConvNeXt or another classifier in stages",
}


@dataclass(frozen=True)
class HRNetFile:
    """What a file holds of an HRNet, by bare names.

    Attributes:
        project: whose layout it has.
        backbone: tensors that timm's HRNet has under the same names.
        head: those of the head, ``final_layer.weight``, ``mlp_head_x.weight``, ...
    """

    project: str
    backbone: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four branches, fine to coarse; none where this is no HRNet."""
        kernels = (self.backbone.get(f"stage4.0.branches.{b}.0.conv1.weight") for b in range(4))
        return tuple(kernel.shape[0] for kernel in kernels if kernel is not None)

    @property
    def kind(self) -> Literal["SimCC", "heatmap"] | None:
        """The head; None where it is neither of the two."""
        heads: dict[frozenset[str], Literal["SimCC", "heatmap"]]
        heads = {frozenset(_MAPS | _BINS): "SimCC", frozenset(_MAPS): "heatmap"}
        return heads.get(frozenset(self.head))

    @property
    def timm_name(self) -> str:
        """Under which timm builds the backbone."""
        width = self.widths[0]
        short = (
            "stage4.0.branches.0.2.conv1.weight" not in self.backbone
        )  # 2 blocks a branch, not 4
        if width == 16:  # timm's smallest is named after the next
            return "hrnet_w18_small"
        return f"hrnet_w{width}_small_v2" if short else f"hrnet_w{width}"

    def __str__(self) -> str:
        """One phrase for reports and errors."""
        head = f" with {self.kind} head" if self.kind else ""
        return f"{self.project} HRNet-W{self.widths[0]}{head}"


def recognise(weights: Mapping[str, Tensor]) -> HRNetFile | None:
    """Read the weights as an HRNet in any of the layouts; None where they are something else.

    Args:
        weights: from :func:`kdpose.checkpoints.tensors.tensors`.
    """
    project = _project(weights)
    bare = {re.sub(r"^(?:backbone\.(?:body\.)?)", "", n): v for n, v in weights.items()}
    backbone = {n: v for n, v in bare.items() if _BACKBONE.match(n)}
    modules = [int(n.split(".")[1]) for n in backbone if n.startswith("stage4.")]
    coarse = re.compile(rf"^stage4\.{max(modules, default=0)}\.fuse_layers\.[123]\.")
    head = {
        re.sub(r"^(?:keypoint_)?head\.", "", n): v
        for n, v in bare.items()
        if n not in backbone and not _CLASSIFIER.match(n) and not _NO_WEIGHTS.match(n)
    }
    # the coarse maps are taken before the last fusion, whose other outputs no pose loss trains
    fine = {n: v for n, v in backbone.items() if not coarse.match(n)}
    file = HRNetFile(project, fine, head)
    return file if len(file.widths) == 4 else None


def looks_like(weights: Mapping[str, Tensor]) -> str:
    """What the weights seem to be, with a name that tells it."""
    file = recognise(weights)
    if file is not None:
        return str(file)
    blocks = {m[1] for name in weights if (m := re.match(r"_blocks\.(\d+)\.", name))}
    if blocks:
        return (
            f"an EfficientNet of {len(blocks)} blocks of efficientnet_pytorch, by _blocks.0 to "
            f"_blocks.{len(blocks) - 1}"
        )
    for pattern, family in _OTHERS.items():
        told = next((name for name in weights if re.search(pattern, name)), None)
        if told is not None:
            return f"{family}, by {told}"
    return f"nothing known, with {', '.join(list(weights)[:3])}"


def recipe(
    file: HRNetFile,
    where: str,
    options: str,
    skeleton: str | None,
    input_size: tuple[int, int],
    label: str | None,
) -> dict[str, Any]:
    """The configuration that builds the network of the file.

    Width, joints and, for SimCC, bins and input size follow from the tensors; the rest is given.

    Args:
        file: what was recognised.
        where: names it in errors.
        options: prefix of the three options' config keys, for errors.
        skeleton: annotation JSON whose category names the joints; None is COCO's at 17 joints and
            CrowdPose's at 14.
        input_size: of a heatmap network, ``(W, H)`` pixels.
        label: what a SimCC network was trained on, see :class:`kdpose.codecs.simcc.SimCC`; None
            is each project's habit, ``gaussian`` for mmpose and ``smooth`` for the official code.

    Raises:
        ValueError: there is no pose head, or an option is needed or does not fit.
    """
    count = _count_joints(file, where)
    codec = _codec(file, where, options, input_size, label)
    head = f"kdpose.heads.{'simcc.SimCCHead' if file.kind == 'SimCC' else 'heatmap.HeatmapHead'}"
    joints = _skeleton(count, where, options, skeleton)
    return {
        "_target_": "kdpose.pose_net.PoseNet",
        "backbone": {"_target_": "kdpose.backbones.hrnet.HRNet", "name": file.timm_name},
        "head": {"_target_": head, "_partial_": True},
        "codec": codec,
        "skeleton": {
            "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
            "values": joints.to_dict(),
        },
    }


def _count_joints(file: HRNetFile, where: str) -> int:
    """How many maps the head makes; refuses a file without a head that is read."""
    if file.kind is None:
        raise ValueError(f"{where} looks like {file}: {_no_head(file)}")
    maps = file.head["final_layer.weight"]
    if maps.shape[1:] != (file.widths[0], 1, 1):
        raise ValueError(
            f"{where} looks like {file}: its final_layer is {tuple(maps.shape)} where a "
            f"1x1 convolution of {file.widths[0]} channels is read"
        )
    return int(maps.shape[0])


def _codec(
    file: HRNetFile, where: str, options: str, input_size: tuple[int, int], label: str | None
) -> dict[str, Any]:
    """The codec's configuration; SimCC's bins tell its input size."""
    if file.kind == "SimCC":
        habit = "gaussian" if file.project.startswith("mmpose") else "smooth"
        bins = _bins(file, where)
        return {"_target_": "kdpose.codecs.simcc.SimCC", **bins, "label": label or habit}
    if any(side < 32 or side % 32 for side in input_size):
        raise ValueError(
            f"{options}input_size must be two multiples of 32 px, got {list(input_size)}"
        )
    return {"_target_": "kdpose.codecs.heatmap.Heatmap", "input_size": list(input_size)}


def _project(weights: Mapping[str, Tensor]) -> str:
    def has(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in weights)

    if has("backbone.body."):
        return "kdpose"
    if has("keypoint_head."):
        return "mmpose 0.x"
    if has("backbone."):
        return "mmpose 1.x" if has("head.") else "mmpose"
    if has("incre_modules.", "classifier."):
        return "ImageNet"
    return "official" if has("final_layer.") else "bare"


def _no_head(file: HRNetFile) -> str:
    if file.head:
        return f"its head ({', '.join(list(file.head)[:3])}) is neither SimCC's nor a heatmap's"
    return "it has no pose head; it can start a backbone (backbone.pretrained_file=PATH)"


def _bins(file: HRNetFile, where: str) -> dict[str, Any]:
    """Input size and split ratio k: nx = k W, ny = k H, and the map has W/4 * H/4 cells."""
    nx, cells = file.head["mlp_head_x.weight"].shape
    ny, cells_y = file.head["mlp_head_y.weight"].shape
    ratio = math.sqrt(nx * ny / (cells * _STRIDE**2))
    width, height = round(nx / ratio), round(ny / ratio)
    ratio = nx / width
    fits = width * height == cells * _STRIDE**2 and cells == cells_y
    if not fits or (int(width * ratio), int(height * ratio)) != (nx, ny):
        raise ValueError(
            f"{where} looks like {file}: its {nx} and {ny} bins on {cells} and {cells_y} cells "
            f"fit no input with a map of stride {_STRIDE}"
        )
    return {"input_size": [width, height], "split_ratio": ratio}


def _skeleton(joints: int, where: str, options: str, path: str | None) -> Skeleton:
    known = {len(COCO): COCO, len(CROWDPOSE): CROWDPOSE}
    if path is None and joints not in known:
        raise ValueError(
            f"{where} has {joints} joints, neither COCO's 17 nor CrowdPose's 14: name them by "
            f"{options}skeleton=ANNOTATIONS.json"
        )
    skeleton = known[joints] if path is None else named_skeleton(path)
    if len(skeleton) != joints:
        raise ValueError(
            f"{where} has {joints} joints and {options}skeleton={path} has {len(skeleton)}"
        )
    return skeleton
