"""The teacher's map lies on the student's pixels, whatever crop the teacher sees."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F

from kdpose.checkpoints.guest_feature import GuestFeature
from kdpose.checkpoints.guest_net import GuestCodec, GuestNet
from kdpose.checkpoints.onnx_net import OnnxNet
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton

CROPS = torch.randint(0, 256, (2, 3, 64, 48), generator=torch.Generator().manual_seed(0)).byte()
RGB = Skeleton("rgb", ("left_dot", "dot", "right_dot"), (), (0.1, 0.1, 0.1))


class Pooled(GuestNet):
    """A teacher whose map is the crop's own pixels, in cells of 4."""

    def __init__(self, width, height):
        super().__init__()
        self.name, self.where = "pooled", "pooled"
        self.codec, self.skeleton = GuestCodec((width, height)), COCO

    def feature(self, image):
        return F.avg_pool2d(image.float(), 4)


def test_a_square_crop_gives_the_map_of_the_students_crop():
    found = GuestFeature(Pooled(64, 64))(CROPS, (16, 12))
    torch.testing.assert_close(found, F.avg_pool2d(CROPS.float(), 4))


def test_a_larger_teacher_gives_the_same_at_its_scale():
    smooth = F.interpolate(torch.rand(1, 3, 4, 3) * 255, (64, 48), mode="bilinear").byte()
    found = GuestFeature(Pooled(128, 128))(smooth, (16, 12))
    torch.testing.assert_close(found, F.avg_pool2d(smooth.float(), 4), atol=3, rtol=0)


def maps_file(path, nhwc):
    """Red, green and blue pooled by 4 behind a wider inner map, with channels first or last."""
    names = ["image", "pooled", "wide"]
    nodes = [
        helper.make_node(
            "AveragePool", [names[0]], [names[1]], kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Concat", [names[1]] * 4, [names[2]], axis=1),
        helper.make_node("Transpose", [names[2]], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["last"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("Split", ["first"], ["map", "rest"], axis=1, num_outputs=2),
        helper.make_node("Split", ["map"], ["joints", "others"], axis=1, num_outputs=2),
        helper.make_node("ReduceMean", ["rest"], ["number"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 64, 48))],
        [helper.make_tensor_value_info("joints", TensorProto.FLOAT, (1, 3, 16, 12))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return {"feature": "last" if nhwc else "wide"}


@pytest.mark.parametrize("nhwc", [False, True])
def test_an_inner_tensor_of_an_onnx_file(nhwc, tmp_path):
    file = tmp_path / "net.onnx"
    options = maps_file(file, nhwc)
    net = OnnxNet(str(file), RGB, output="heatmap", mean=[0, 0, 0], std=[1, 1, 1], **options)
    feature = GuestFeature(net)
    pooled = F.avg_pool2d(CROPS.float(), 4)
    assert feature.channels == 12
    torch.testing.assert_close(feature(CROPS, (16, 12)), pooled.repeat(1, 4, 1, 1))
    assert net.pose(CROPS).joints.shape == (2, 3, 2)  # poses are read as before


@pytest.mark.parametrize(
    ("name", "says"),
    [("none", "has no tensor none"), ("number", r"number .* which is no map of a 48x64 crop")],
)
def test_what_is_no_map_is_refused_with_those_that_are(name, says, tmp_path):
    maps_file(tmp_path / "net.onnx", False)
    with pytest.raises(ValueError, match=says) as error:
        OnnxNet(str(tmp_path / "net.onnx"), RGB, output="heatmap", feature=name)
    assert "wide (1, 12, 16, 12)" in str(error.value)


def test_without_a_name_eq_1_is_refused_with_the_maps(tmp_path):
    maps_file(tmp_path / "net.onnx", False)
    net = OnnxNet(str(tmp_path / "net.onnx"), RGB, output="heatmap")
    with pytest.raises(ValueError, match=r"teacher.feature=NAME of .*wide \(1, 12, 16, 12\)"):
        GuestFeature(net)
