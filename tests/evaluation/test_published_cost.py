"""Parameters and multiply-adds of published networks at their papers' sizes, 17 joints, 256x192."""

from typing import ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from kdpose.cli import CONF
from kdpose.evaluation.cost import build, complexity


def built(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return build(compose("complexity", overrides=["dataset=coco", *overrides]))


def counted(net):
    """Parameters in millions and multiply-adds in thousand millions."""
    count = complexity(net)
    return count["params"] / 1e6, count["gmacs"]


def as_hrnets_code_counts(net):
    """What the code of HRNet and SimpleBaseline prints: a weight per cell of each result, 2^30.

    A transposed convolution of stride 2 multiplies by each weight once per cell of its input, a
    quarter of that.
    """
    total = []

    def add(module, _, result):
        total.append(module.weight.numel() * result.shape[-2:].numel())

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(add)
    width, height = net.codec.input_size
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, height, width))
    return sum(total) / 2**30


RESNET = ("backbone=resnet50", "head=deconvolutions", "codec=heatmap")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ours", "published"),
    [
        # with ResNet-50 34.0 M and 8.9 GFLOPs, with ResNet-152 68.6 M and 15.7
        ("resnet50", (34.000, 5.426), (34.0, 8.9)),
        ("resnet152", (68.635, 12.699), (68.6, 15.7)),
    ],
)
def test_simple_baseline(name, ours, published):
    net = built(*RESNET, f"backbone.name={name}")
    assert counted(net) == pytest.approx(ours, abs=1e-3)
    assert ours[0] == pytest.approx(published[0], abs=0.05)
    assert as_hrnets_code_counts(net) == pytest.approx(published[1], abs=0.1)


def backbone_alone(net):
    """The same of the backbone."""
    width, height = net.codec.input_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval().backbone(torch.zeros(1, 3, height, width))
    params = sum(p.numel() for p in net.backbone.parameters())
    return params / 1e6, counter.get_total_flops() / 2e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ours", "published"),
    [
        ("vit_small", (24.291, 5.620), None),
        # 86 M and 17.1 GFLOPs are the backbone's; ours has a class token, 193 tokens for 192
        ("vit_base", (89.995, 18.616), (86, 17.1)),
    ],
)
def test_vitpose(name, ours, published):
    net = built(f"backbone={name}", "head=vitpose", "codec=udp")
    assert counted(net) == pytest.approx(ours, abs=1e-3)
    if published is not None:
        params, gmacs = backbone_alone(net)
        assert params == pytest.approx(published[0], abs=0.5)
        assert gmacs * 192 / 193 == pytest.approx(published[1], abs=0.05)


def without_attentions_products(net):
    """Multiply-adds of convolutions and linear layers alone, in thousand millions."""
    width, height = net.codec.input_size
    with FlopCounterMode(display=False) as counter:  # with gradients no layers are fused
        net.eval()(torch.zeros(1, 3, height, width))
    products = counter.get_flop_counts()["Global"].items()
    return sum(count for op, count in products if "attention" not in str(op)) / 2e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "head", "ours", "published"),
    [
        # 273 tokens of 192 numbers, 12 layers: 1.208 G in linear layers, 0.343 G in attention;
        # TokenPose's code divides by 2^30
        ("hrnet_stem", "tokenpose", (6.628, 2.726), (6.6, 2.2 * 2**30 / 1e9)),
        ("hrnet_stem", "distilpose", (5.383, 2.705), (5.36, 2.38)),
        ("hrnet_w48_stage3", "distilpose", (21.284, 10.612), (21.27, 10.33)),
    ],
)
def test_tokens(backbone, head, ours, published):
    codec = "heatmap" if head == "tokenpose" else "regression"
    net = built(f"backbone={backbone}", f"head={head}", f"codec={codec}")
    assert counted(net) == pytest.approx(ours, abs=1e-3)
    attention = 12 * 2 * 273**2 * 192 / 1e9
    assert ours[1] - without_attentions_products(net) == pytest.approx(attention, abs=1e-3)
    assert ours[0] == pytest.approx(published[0], abs=0.03)
    assert ours[1] - attention == pytest.approx(published[1], rel=0.01)


class Elementwise(TorchDispatchMode):
    """Adds up what TransPose's code counts of a network's other layers, operations."""

    WEIGHTS: ClassVar = {"native_batch_norm": 4, "relu": 1, "relu_": 1, "add": 1, "add_": 1}

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if weight := self.WEIGHTS.get(func.overloadpacket.__name__):
            self.total += weight * (result[0] if isinstance(result, tuple) else result).numel()
        return result


def elementwise(net):
    """Operations of normalisation, activation and sums, in thousand millions."""
    width, height = net.codec.input_size
    with Elementwise() as count:
        net.eval()(torch.zeros(1, 3, height, width))
    return count.total / 1e9


@pytest.mark.slow
def test_transpose():
    """TransPose-H-A6: 17.5 M, with the table of positions that its code counts, and 21.8 GFLOPs."""
    net = built("backbone=hrnet_w48_stage3", "head=transpose", "codec=heatmap")
    params, gmacs = counted(net)
    assert params + 48 * 64 * 96 / 1e6 == pytest.approx(17.5, abs=0.05)
    attention = 6 * 2 * (48 * 64) ** 2 * 96 / 1e9
    assert gmacs - without_attentions_products(net) == pytest.approx(attention, abs=1e-3)
    assert gmacs == pytest.approx(21.282, abs=1e-3)
    # beyond products its code counts 5 for a value of the softmax and 1 for one of a dropout, a
    # bias or the scaled queries
    cells, dropouts, biases, queries = 48 * 64, 2 * 96 + 192, 5 * 96 + 192, 96
    layer = (5 + 1) * cells**2 + cells * (dropouts + biases + queries)
    extra = 6 * layer / 1e9 + elementwise(net)
    assert gmacs + extra == pytest.approx(21.8, abs=0.05)


HOURGLASS = ("backbone=hourglass", "head=heatmap", "codec=heatmap")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stacks", "ours"),
    [(1, (3.427, 3.864)), (2, (6.571, 6.253)), (4, (12.860, 11.033)), (8, (25.438, 20.592))],
)
def test_hourglass(stacks, ours):
    assert counted(built(*HOURGLASS, f"backbone.stacks={stacks}")) == pytest.approx(ours, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stacks", "channels", "published"),
    [(8, 256, (26, 55)), (4, 128, (3, 9))],  # FPD's teacher and student, in M and GFLOPs
)
def test_hourglass_as_fpd_counts(stacks, channels, published):
    """At 256x256 with MPII's 16 joints; a multiply-add is two operations there."""
    size = ("codec.input_size=[256,256]", "backbone.maps=16")
    net = built(*HOURGLASS, f"backbone.stacks={stacks}", f"backbone.channels={channels}", *size)
    params, gmacs = counted(net)
    assert params == pytest.approx(published[0], abs=0.6)
    assert 2 * gmacs == pytest.approx(published[1], abs=0.6)


@pytest.mark.slow
def test_opec_net():
    """On HRNet-W32 the refined SimCC network's 33.696 M and 7.972 G, and a 3x3 convolution."""
    heat = 9 * 128 * 17
    params, gmacs = counted(built("refiner=opec_net"))
    assert params == pytest.approx(33.696 + (heat + 17) / 1e6, abs=1e-3)
    assert gmacs == pytest.approx(7.972 + heat * 48 * 64 / 1e9, abs=1e-3)
