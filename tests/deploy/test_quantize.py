import numpy as np
import onnx
import openvino
import pytest

from kdpose.deploy.formats import save_onnx
from kdpose.deploy.quantize import OnnxQuantizer, OpenVinoQuantizer, group_order
from kdpose.deploy.runner import open_model

CHOSEN = ("backbone.layer1", "refiner.graph")


@pytest.fixture(scope="module")
def by_onnxruntime(graph, crops):
    return OnnxQuantizer(graph[0], graph[1], crops)


@pytest.fixture(scope="module")
def by_nncf(graph, crops, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "tiny.onnx"
    save_onnx(graph[0], path, {})
    return OpenVinoQuantizer(openvino.Core().read_model(path), graph[1], crops)


@pytest.mark.slow
def test_only_the_chosen_groups_become_integers(by_onnxruntime, graph):
    model, groups = by_onnxruntime(CHOSEN), graph[1]
    integers = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8}
    made = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    weights = {  # of each layer: whether they come from integers
        node.name: node.input[1] in made
        for node in model.graph.node
        if node.op_type == "Conv" and node.name in groups
    }
    assert integers
    assert weights == {name: groups[name] == "backbone.layer1" for name in weights}
    assert sum(weights.values()) == 2


@pytest.mark.slow
def test_every_channel_fills_seven_bits(by_onnxruntime):
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in by_onnxruntime(("backbone.layer1",)).graph.initializer
    ]
    kernels = [w for w in weights if w.dtype == np.int8 and w.ndim == 4]
    assert len(kernels) == 2
    for kernel in kernels:
        largest = np.abs(kernel.astype(int)).reshape(len(kernel), -1).max(1)
        assert set(largest) <= {63, 64}  # one scale for all channels would leave most below


@pytest.mark.slow
def test_a_refiner_in_integers_stays_close(by_onnxruntime, crops, expected, tmp_path):
    save_onnx(by_onnxruntime(("refiner.image",)), tmp_path / "int8.onnx", {})
    joints, _ = open_model(str(tmp_path / "int8.onnx"), 1)[1](crops)
    moved = np.abs(joints - expected[0])
    assert 0 < moved.mean() < 0.1 * expected[0].std()


@pytest.mark.slow
def test_nncf_quantises_the_chosen_groups_alone(by_nncf, graph):
    names = {
        op.get_friendly_name().split("/")[0]
        for op in by_nncf(("backbone.layer1",)).get_ops()
        if op.get_type_name() == "FakeQuantize"
    }
    nodes = {n.name for n in graph[0].graph.node if graph[1].get(n.name) == "backbone.layer1"}
    inputs = {n.name for n in graph[0].graph.node if n.op_type == "MaxPool"}
    assert names & nodes
    assert names <= nodes | inputs


@pytest.mark.slow
def test_nncf_on_the_whole_network_can_be_run(by_nncf, graph, crops, expected):
    model = by_nncf(tuple(group_order(graph[1].values())))
    run = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    joints, _ = run(crops).values()
    assert joints.shape == expected[0].shape
    assert np.isfinite(joints).all()
    assert np.abs(joints - expected[0]).max() > 0


def test_group_order_is_that_of_the_graph():
    assert group_order(["stem", "stem", "head", "stem", "neck"]) == ["stem", "head", "neck"]
