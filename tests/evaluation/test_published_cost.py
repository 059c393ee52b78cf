"""Parameters and multiply-adds of published networks at their papers' sizes, 17 joints, 256x192."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
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
