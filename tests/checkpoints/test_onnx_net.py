"""ONNX files of every kind are recognised, read in crop pixels, and refused where they are none."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kdpose.checkpoints.onnx_net import OnnxNet
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton

W, H, K = 48, 64, 17
RGB = Skeleton("rgb", ("left_dot", "dot", "right_dot"), (), (0.1, 0.1, 0.1))


def save(path, shape, kind, nodes, outputs):
    """A graph from one input to named outputs."""
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return str(path)


def constant(path, values, shape=(1, 3, H, W), kind=TensorProto.FLOAT):
    """A network that gives the same whatever it sees."""
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.asarray(value, np.float32))
        )
        for name, value in values.items()
    ]
    return save(path, shape, kind, nodes, list(values))


def dots(path, nhwc, kind, batch):
    """A heatmap network whose three joints are where its input is red, green and blue."""
    shape = (batch, H, W, 3) if nhwc else (batch, 3, H, W)
    nodes = [helper.make_node("Cast", ["image"], ["a"], to=TensorProto.FLOAT)]
    nodes.append(
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2] if nhwc else [0, 1, 2, 3])
    )
    nodes.append(helper.make_node("MaxPool", ["b"], ["map"], kernel_shape=[4, 4], strides=[4, 4]))
    return save(path, shape, kind, nodes, ["map"])


def crops(count=2):
    """Black crops with a red, a green and a blue cell of 4 x 4 pixels."""
    image = torch.zeros(count, 3, H, W, dtype=torch.uint8)
    for channel, (x, y) in enumerate([(8, 12), (20, 40), (40, 52)]):
        image[:, channel, y : y + 4, x : x + 4] = 255
    return image


def shown(net):
    return net.reading.kind, net.reading.order, net.reading.unit


JOINTS = torch.tensor([[8.0, 12.0], [20.0, 40.0], [40.0, 52.0]])


@pytest.mark.parametrize("batch", ["n", 1, 3])
@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8])
def test_layouts_types_and_batches_are_fed_as_the_file_wants_them(tmp_path, batch, nhwc, kind):
    if kind == TensorProto.UINT8 and not nhwc:
        kind = TensorProto.FLOAT
    net = OnnxNet(dots(tmp_path / "dots.onnx", nhwc, kind, batch), RGB, threads=1)
    assert (net.reading.kind, net.nhwc, net.codec.input_size) == ("heatmap", nhwc, (W, H))
    pose = net.pose(crops(), flip=False)
    assert (pose.joints - JOINTS).abs().max() <= 1.5


def test_bgr_and_normalisation_are_applied(tmp_path):
    file = dots(tmp_path / "dots.onnx", False, TensorProto.FLOAT, 1)
    net = OnnxNet(file, RGB, channels="bgr", mean=[0, 0, 0], std=[255, 255, 255], threads=1)
    pose = net.pose(crops(1))
    assert (pose.joints[0] - JOINTS.flip(0)).abs().max() <= 1.5
    torch.testing.assert_close(pose.scores, torch.ones(1, 3))


def test_the_mirrored_view_comes_back_in_the_crop(tmp_path):
    file = dots(tmp_path / "dots.onnx", False, TensorProto.FLOAT, 1)
    pose = OnnxNet(file, RGB, mean=[0, 0, 0], std=[255, 255, 255], threads=1).pose(crops(1), True)
    # left and right change places in the mirrored view; the joint between them is seen alike
    assert (pose.joints[0, 1] - JOINTS[1]).abs().max() <= 1.5


def keypoints(unit):
    rng = np.random.default_rng(0)
    points = rng.uniform(0.1, 0.9, (1, 1, K, 3)).astype(np.float32)
    if unit == "pixel":
        points[..., :2] *= 40
    return points


def test_movenet_is_recognised(tmp_path):
    """NHWC int32, y and x in 0..1, padded by a tenth; edges of the crop are 0 and 1."""
    points = keypoints("crop")
    file = constant(tmp_path / "m.onnx", {"out": points}, (1, H, W, 3), TensorProto.INT32)
    net = OnnxNet(file, threads=1)
    assert (*shown(net), net.padding) == ("keypoints", "yxs", "crop", 1.1)
    pose = net.pose(torch.zeros(1, 3, H, W, dtype=torch.uint8))
    expected = points[0, 0, :, [1, 0]].T * [W, H] - 0.5
    np.testing.assert_allclose(pose.joints[0], expected, atol=1e-4)
    np.testing.assert_allclose(pose.scores[0], points[0, 0, :, 2], atol=1e-6)


def test_keypoints_in_pixels_of_an_nchw_network(tmp_path):
    points = keypoints("pixel")
    net = OnnxNet(constant(tmp_path / "k.onnx", {"out": points[0]}), threads=1)
    assert (*shown(net), net.padding) == ("keypoints", "xys", "pixel", 1.25)
    pose = net.pose(torch.zeros(1, 3, H, W, dtype=torch.uint8))
    np.testing.assert_allclose(pose.joints[0], points[0, 0, :, :2], atol=1e-5)


@pytest.mark.parametrize("names", [("simcc_x", "simcc_y"), ("first", "second")])
def test_simcc_pairs(tmp_path, names):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 0.3, (1, K, 2 * W)), rng.uniform(0, 0.3, (1, K, 2 * H))
    places = np.stack([rng.integers(0, 2 * W, K), rng.integers(0, 2 * H, K)], 1)
    x[0, range(K), places[:, 0]], y[0, range(K), places[:, 1]] = 0.9, 0.7
    net = OnnxNet(constant(tmp_path / "s.onnx", dict(zip(names, (x, y), strict=True))), threads=1)
    assert net.reading.kind == "simcc"
    pose = net.pose(torch.zeros(1, 3, H, W, dtype=torch.uint8))
    np.testing.assert_allclose(pose.joints[0], places / 2)
    np.testing.assert_allclose(pose.scores[0], 0.7, atol=1e-6)
    spread = net.answer(torch.zeros(1, 3, H, W, dtype=torch.uint8)).spread
    assert spread is not None
    assert spread.min() > 5  # noise up to a third of the peak, all over the crop


def test_joints_beside_scores_as_kdpose_exports_them(tmp_path):
    joints, scores = np.full((1, K, 2), 7.0), np.full((1, K), 0.5)
    net = OnnxNet(constant(tmp_path / "j.onnx", {"joints": joints, "scores": scores}), threads=1)
    pose = net.pose(torch.zeros(1, 3, H, W, dtype=torch.uint8))
    assert net.reading.kind == "joints"
    assert pose.joints.unique().tolist() == [7]


@pytest.mark.parametrize(
    ("values", "shape", "says"),
    [
        ({"logits": np.zeros((1, 1000))}, (1, 3, H, W), "gives logits .*no SimCC pair"),
        ({"map": np.zeros((1, 14, 16, 12))}, (1, 3, H, W), "of the 17 joints of 'coco'"),
        ({"map": np.zeros((1, 17, 16, 12))}, (1, 3, "h", "w"), "set teacher.input_size"),
        ({"map": np.zeros((1, 17, 16, 12))}, (1, 5, H, W), "needs one input of images"),
    ],
)
def test_other_files_are_refused_in_one_line_that_says_what_was_seen(tmp_path, values, shape, says):
    with pytest.raises(ValueError, match=says) as refused:
        OnnxNet(constant(tmp_path / "x.onnx", values, shape), COCO, threads=1)
    assert "\n" not in str(refused.value)


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read by onnxruntime"):
        OnnxNet(str(tmp_path / "x.onnx"))
    with pytest.raises(FileNotFoundError, match="no ONNX file"):
        OnnxNet(str(tmp_path / "none.onnx"))


def found_persons(kind, unit="pixel"):
    """Three detected persons ``(1, 3, values)`` as a kind of network writes them; the second fits.

    The first is small and sure, the third is large and beside the crop's middle.
    """
    rng = np.random.default_rng(0)
    low = np.array([[18, 27], [5, 7], [20, 4]], np.float32)
    high = np.array([[28, 39], [43, 57], [47, 60]], np.float32)
    score = np.array([[0.9], [0.8], [0.7]], np.float32)
    points = rng.uniform(5, 40, (3, K, 3)).astype(np.float32)
    points[..., 2] = rng.uniform(0.3, 0.9, (3, K))
    told = points.copy()
    if unit == "crop":
        scale = np.float32([W, H])
        low, high = ((value + 0.5) / scale for value in (low, high))
        told[..., :2] = (told[..., :2] + 0.5) / scale
    if kind == "yolo":
        columns = [(low + high) / 2, high - low, score, told.reshape(3, -1)]
    elif kind == "suppressed":
        columns = [low, high, score, 0 * score, told.reshape(3, -1)]
    else:  # MoveNet's
        columns = [told[..., [1, 0, 2]].reshape(3, -1), low[:, ::-1], high[:, ::-1], score]
    return np.concatenate(columns, 1)[None], points[1]


@pytest.mark.parametrize(
    ("kind", "unit"), [("yolo", "pixel"), ("suppressed", "pixel"), ("movenet", "crop")]
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_detected_persons_the_one_that_fits_the_crop_answers(tmp_path, kind, unit, turned):
    rows, points = found_persons(kind, unit)
    rows = rows.transpose(0, 2, 1) if turned else rows
    shape = (1, H, W, 3) if kind == "movenet" else (1, 3, H, W)
    net = OnnxNet(constant(tmp_path / "d.onnx", {"output0": rows}, shape), threads=1)
    assert shown(net) == ("detections", "yxs" if kind == "movenet" else "xys", unit)
    assert net.std.tolist() == [255, 255, 255]
    pose = net.pose(torch.zeros(2, 3, H, W, dtype=torch.uint8)[:1])
    np.testing.assert_allclose(pose.joints[0], points[:, :2], atol=1e-4)
    np.testing.assert_allclose(pose.scores[0], 0.8 * points[:, 2], atol=1e-6)


def test_where_nobody_is_detected_nothing_is_known(tmp_path):
    file = constant(tmp_path / "d.onnx", {"output0": np.zeros((1, 0, 57))})
    pose = OnnxNet(file, threads=1).pose(torch.zeros(1, 3, H, W, dtype=torch.uint8))
    assert pose.scores.abs().sum() == 0
