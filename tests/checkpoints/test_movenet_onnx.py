"""A file made of a random network of MoveNet's layers, folded as a converter folds them."""

import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kdpose.backbones.movenet import MoveNetPyramid
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.movenet_onnx import start_as_movenet
from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc import SimCCHead
from kdpose.heads.simcc_maps import SimCCMapsHead
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE = (32, 64)
GREY = (127.5 / 255,) * 3  # MoveNet's pixels are x / 127.5 - 1


def movenet(skeleton=COCO):
    return PoseNet(MoveNetPyramid(), SimCCMapsHead, SimCC(SIZE), skeleton)


def write(net, path):
    """The convolutions by MoveNet's names and in its order, with another head among them."""
    body, nodes, values = net.backbone, [], []

    def add(conv, norm=None, name="body"):
        weight, bias = conv.weight.data, conv.bias
        if norm is not None:
            weight, bias = fuse_conv_bn_weights(
                weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        label = f"{name}/{len(nodes)}"
        inputs = {"w": weight, "b": bias}
        arrays = {f"{label}{k}": v.detach().numpy() for k, v in inputs.items() if v is not None}
        values.extend(numpy_helper.from_array(v, k) for k, v in arrays.items())
        nodes.append(helper.make_node("Conv", ["x", *arrays], [f"{label}:0"]))

    add(body.conv_stem, body.bn1)
    for block in body.blocks.modules():
        for conv, norm in (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")):
            if hasattr(block, "conv_pwl"):
                add(getattr(block, conv), getattr(block, norm))
        if hasattr(block, "conv_dw") and not hasattr(block, "conv_pwl"):  # the first block
            add(block.conv_dw, block.bn1)
            add(block.conv_pw, block.bn2)
    add(body.conv_head, body.bn2)
    add(body.top)
    for level in (2, 1, 0):
        add(body.laterals[level])
        add(body.smooth[level][0])
        add(body.smooth[level][1])
    add(nn.Conv2d(24, 34, 1), name="kpt_offset_0")
    for number in (0, 1, 3):
        add(net.head.maps[number], name="kpt_heatmap_0")
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], values)), path)


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    net = movenet()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for values in (norm.weight, norm.running_var):
            nn.init.uniform_(values, 0.5, 1.5)
        for values in (norm.bias, norm.running_mean):
            nn.init.uniform_(values, -0.5, 0.5)
    net.mean.fill_(127.5)
    net.std.fill_(127.5)
    return net.eval()


@pytest.fixture(scope="module")
def file(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("movenet") / "lightning.onnx"
    write(original, path)
    return path


@pytest.fixture
def crops():
    return torch.randint(0, 256, (4, 3, 64, 32), generator=torch.Generator().manual_seed(1)).byte()


def test_the_network_computes_what_the_file_does(original, file, crops):
    net = movenet()
    start_as_movenet(net, file, crops)
    assert net.training
    net.eval()
    with torch.no_grad():
        expected, found = original(crops).features[0], net(crops).features[0]
    inner = (
        slice(None),
        slice(None),
        slice(4, -4),
        slice(2, -2),
    )  # padded pixels differ
    assert expected.std() > 0.01
    torch.testing.assert_close(found[inner].mean(), expected[inner].mean(), rtol=0.05, atol=0.01)
    net.mean.copy_(original.mean)  # with the file's own pixels there is no such difference
    net.std.copy_(original.std)
    start_as_movenet(net, file, crops)
    with torch.no_grad():
        torch.testing.assert_close(net(crops).features[0], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            net(crops).logits.x, original(crops).logits.x, rtol=1e-3, atol=1e-3
        )


def test_batch_norms_have_the_statistics_of_the_crops(file, crops):
    net = movenet()
    start_as_movenet(net, file, crops)
    seen = {}
    net.backbone.bn1.register_forward_pre_hook(lambda norm, args: seen.update(x=args[0]))
    net.eval()(crops)
    norm = net.backbone.bn1
    torch.testing.assert_close(norm.running_mean, seen["x"].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen["x"].var((0, 2, 3), correction=0))


def test_another_skeletons_joints_start_by_their_names(original, file, crops):
    net = movenet(CROWDPOSE)
    start_as_movenet(net, file, crops)
    net.eval()
    net.mean.copy_(original.mean)
    net.std.copy_(original.std)
    start_as_movenet(net, file, crops)
    with torch.no_grad():
        ours, its = net(crops).logits, original(crops).logits
    for k, name in enumerate(CROWDPOSE.joints):
        if name in COCO.joints:
            place = COCO.joints.index(name)
            torch.testing.assert_close(ours.x[:, k], its.x[:, place], rtol=1e-3, atol=1e-3)
        else:  # head and neck
            assert ours.x[:, k].isfinite().all()


def test_another_network_is_refused(file, crops):
    net = PoseNet(TimmPyramid("resnet10t", neck_channels=8), SimCCHead, SimCC(SIZE), COCO)
    with pytest.raises(ValueError, match="a start for backbone=mobilenetv2_movenet alone"):
        start_as_movenet(net, file, crops)


def test_what_is_no_such_file_is_refused(tmp_path, crops):
    with pytest.raises(FileNotFoundError, match=r"no file at .*\(from start\)"):
        start_as_movenet(movenet(), tmp_path / "none.onnx", crops)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"<html>")
    with pytest.raises(ValueError, match="is no ONNX file"):
        start_as_movenet(movenet(), broken, crops)


def test_movenets_own_file_predicts_the_joints(real_data, crops):
    file = real_data.parent / "models" / "movenet_lightning.onnx"
    if not file.is_file():
        pytest.skip(f"no {file}")
    net = movenet()
    start_as_movenet(net, file, crops)
    assert net.backbone.conv_stem.weight.abs().mean() > 0.1


def test_another_head_starts_at_random_on_movenets_backbone(original, file):
    torch.manual_seed(5)
    net = PoseNet(MoveNetPyramid(), SimCCHead, SimCC(SIZE), CROWDPOSE)
    net.mean.fill_(127.5)  # as the file's, so that padding is the same grey
    net.std.fill_(127.5)
    head = {name: value.clone() for name, value in net.head.state_dict().items()}
    crops = torch.randint(0, 256, (4, 3, SIZE[1], SIZE[0]), dtype=torch.uint8)
    start_as_movenet(net, file, crops)
    assert all(head[name].equal(value) for name, value in net.head.state_dict().items())
    with torch.no_grad():
        ours, theirs = (n.eval()(crops).features[0] for n in (net, original))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
