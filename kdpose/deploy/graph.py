"""The network as one graph from uint8 crops to joints, for other runtimes."""

import copy
import logging
import re
from collections.abc import Mapping
from typing import Any

import onnx
import torch
from onnxscript import optimizer
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.sem_graph_conv import SemGraphConv

INPUT, OUTPUTS = "image", ("joints", "scores")
_LIMIT = 2**31  # elements: fold all that depends only on weights, such as a graph's attention
_STEM = re.compile(r"(conv|bn|act|maxpool)")
_SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter stores the modules of a node


class _Half(nn.Module):
    """A backbone that computes in float16 between float32 crops and float32 maps."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.inner = backbone.half()
        self.channels: tuple[int, ...] = backbone.channels
        self.strides: tuple[int, ...] = backbone.strides

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(feature.float() for feature in self.inner(image.half()))


class DeployedPoseNet(nn.Module):
    """Normalisation, network, decoding and refinement: all that an exported file computes.

    Args:
        net: copied; its graph convolutions become dense, so that the graph has no scatters.
        half: compute the backbone in float16. Head, decoding and refiner stay in float32,
            because the 11 bits of float16 are too few for bins and pixels.
    """

    def __init__(self, net: PoseNet | RefinedPoseNet, half: bool = False) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).cpu().eval()
        for module in self.net.modules():
            if isinstance(module, SemGraphConv):
                module.backend = "dense"
        if half:
            student = self.net if isinstance(self.net, PoseNet) else self.net.student
            student.backbone = _Half(student.backbone)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Joints ``(B, K, 2)``, crop pixels, and scores ``(B, K)`` of crops ``(B, 3, H, W)``."""
        pose = self.net.pose(image)
        return pose.joints, pose.scores


def export_program(net: PoseNet | RefinedPoseNet, half: bool = False) -> ExportedProgram:
    """The network as torch's own graph, for any batch size."""
    width, height = net.codec.input_size
    crops = torch.zeros(2, 3, height, width, dtype=torch.uint8)  # 2: torch takes 1 as a constant
    with torch.no_grad():  # outside, because module names are lost inside the graph
        program = torch.export.export(
            DeployedPoseNet(net, half), (crops,), dynamic_shapes={INPUT: {0: Dim("batch")}}
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # file paths of this machine
    return program


def to_onnx(program: ExportedProgram) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The graph in ONNX, and the layer group of each of its nodes that belongs to one."""
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # warnings about the exporter's own graphs
    exported = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
    )
    assert exported is not None
    optimizer.fold_constants(exported.model, input_size_limit=_LIMIT, output_size_limit=_LIMIT)
    model = exported.model_proto
    groups = node_groups(model)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    _name_batch(model)
    return model, groups


def node_groups(model: onnx.ModelProto) -> dict[str, str]:
    """The layer group by node; a ``Clip``, which carries no position, belongs to what it clips."""
    groups: dict[str, str] = {}
    made: dict[str, str] = {}  # by value
    for node in model.graph.node:
        group = layer_group({entry.key: entry.value for entry in node.metadata_props})
        if group is None and node.op_type == "Clip":
            group = made.get(node.input[0])
        if group is not None:
            groups[node.name] = group
            made |= dict.fromkeys(node.output, group)
    return groups


def layer_group(notes: Mapping[str, str]) -> str | None:
    """A node's layer group: a part of the backbone, ``head``, or a part of the refiner.

    Args:
        notes: the exporter's metadata of the node: the modules around it, outermost first.
    """
    scopes = [s.strip(" '[]\"") for s in notes.get(_SCOPES, "").split(",")][:-1]  # last: the op
    scopes = [s for s in scopes if s.startswith("net.")]
    if not scopes:
        return None
    hidden = ("net", "student", "inner", "body")  # carry no position
    path = [part for part in scopes[-1].split(".") if part not in hidden]
    if not path:
        return None
    if path[0] == "refiner":
        return "refiner.image" if path[1:2] in (["head"], ["heat"]) else "refiner.graph"
    if path[0] != "backbone" or len(path) == 1:
        return path[0]
    if path[1] == "blocks":  # all but the stem of a MobileNet
        return ".".join(path[:3])
    return "backbone.stem" if _STEM.match(path[1]) else f"backbone.{path[1]}"


def _name_batch(model: onnx.ModelProto) -> None:
    """Name the free axis ``batch``; torch gives it a number."""
    shown = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    for value in values:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = size.dim_param.replace(shown, "batch")
