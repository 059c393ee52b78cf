import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from kdpose.deploy.graph import DeployedPoseNet, layer_group, node_groups

pytestmark = pytest.mark.slow


def scopes(*names):
    return {"pkg.torch.onnx.name_scopes": str([*names, "conv2d_3"])}


@pytest.mark.parametrize(
    ("modules", "group"),
    [
        (["", "net", "net.backbone", "net.backbone.body", "net.backbone.body.conv1"], "stem"),
        (["", "net", "net.backbone", "net.backbone.body.bn2"], "stem"),
        (["", "net", "net.backbone.body.stage3.1.branches.0.2.conv1"], "stage3"),
        (["", "net", "net.student", "net.student.backbone.neck.layer_blocks.0"], "neck"),
        (["", "net", "net.student.backbone", "net.student.backbone.inner.body.layer1"], "layer1"),
        (["", "net", "net.student.backbone.body.blocks.5.1.conv_dw"], "blocks.5"),
        (["", "net", "net.student.backbone"], ""),
    ],
)
def test_parts_of_the_backbone(modules, group):
    assert layer_group(scopes(*modules)) == f"backbone.{group}".rstrip(".")


@pytest.mark.parametrize(
    ("modules", "group"),
    [
        (["", "net", "net.head", "net.head.mlp_head_x"], "head"),
        (["", "net", "net.refiner", "net.refiner.head", "net.refiner.head.fuse8"], "refiner.image"),
        (["", "net", "net.refiner", "net.refiner.blocks.1.expand"], "refiner.graph"),
        (["", "net"], None),  # normalisation and decoding
        (["", "net", "net.student"], None),
    ],
)
def test_head_refiner_and_what_belongs_to_no_group(modules, group):
    assert layer_group(scopes(*modules)) == group


def test_an_activation_belongs_to_what_it_clips():
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], name="conv"),
        helper.make_node("Clip", ["map", "low", "high"], ["clipped"], name="n4"),
        helper.make_node("Clip", ["image", "low", "high"], ["other"], name="n5"),
    ]
    for key, value in scopes("", "net", "net.backbone.body.conv1").items():
        nodes[0].metadata_props.add(key=key, value=value)
    model = helper.make_model(helper.make_graph(nodes, "g", [], []))
    assert node_groups(model) == {"conv": "backbone.stem", "n4": "backbone.stem"}


def test_nothing_noted_is_no_group():
    assert layer_group({}) is None


def test_dense_graph_convolutions_change_nothing(loaded, crops, expected):
    before = copy.deepcopy(loaded.net.state_dict())
    with torch.no_grad():
        joints, scores = DeployedPoseNet(loaded.net)(torch.from_numpy(crops))
    np.testing.assert_allclose(joints, expected[0], atol=1e-4)
    np.testing.assert_allclose(scores, expected[1], atol=1e-6)
    assert loaded.net.refiner.input.backend == "pyg"  # a copy was changed
    assert all(torch.equal(before[name], value) for name, value in loaded.net.state_dict().items())


def test_half_is_the_backbone_alone(loaded):
    net = DeployedPoseNet(loaded.net, half=True).net
    assert {p.dtype for p in net.student.backbone.parameters()} == {torch.float16}
    others = [*net.student.head.parameters(), *net.refiner.parameters()]
    assert {p.dtype for p in others} == {torch.float32}
    assert {p.dtype for p in loaded.net.parameters()} == {torch.float32}


def test_half_computes_nearly_the_same_maps(loaded, crops):
    image = torch.from_numpy(crops)
    half = DeployedPoseNet(loaded.net, half=True).net.student
    with torch.no_grad():
        exact, rounded = loaded.net.student(image).logits.x, half(image).logits.x
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_size(graph, crops, expected, batch):
    session = onnxruntime.InferenceSession(graph[0].SerializeToString())
    joints, scores = session.run(None, {"image": crops[:batch]})
    np.testing.assert_allclose(joints, expected[0][:batch], atol=1e-3)
    np.testing.assert_allclose(scores, expected[1][:batch], atol=1e-5)


def test_the_graph_is_plain_and_tells_nothing_of_this_machine(graph):
    model, groups = graph
    onnx.checker.check_model(model)
    kinds = {node.op_type for node in model.graph.node}
    assert not [kind for kind in kinds if kind.startswith("Scatter")]
    sizes = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 3, 64, 48]
    assert [output.name for output in model.graph.output] == ["joints", "scores"]
    written = model.SerializeToString()
    assert b"stack_trace" not in written
    assert b".py" not in written
    assert {"backbone.stem", "backbone.neck", "head", "refiner.image", "refiner.graph"} <= set(
        groups.values()
    )
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert set(convolutions) <= groups.keys()
