"""Parameters and multiply-adds of published networks at their papers' sizes, 17 joints, 256x192."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from kdpose.cli import CONF
from kdpose.evaluation.cost import build, complexity


def built(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return build(compose("complexity", overrides=["dataset=coco", *overrides]))


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


RESNET = ("head=deconvolutions", "codec=heatmap")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "params", "gmacs", "printed"),
    [
        # SimpleBaseline: 34.0 M and 8.9 GFLOPs with ResNet-50, 68.6 M and 15.7 with ResNet-152
        (["backbone=resnet50", *RESNET], 34.0, 5.46, 8.9),
        (["backbone=resnet50", "backbone.name=resnet152", *RESNET], 68.6, 12.77, 15.7),
    ],
)
def test_simple_baseline(overrides, params, gmacs, printed):
    net = built(*overrides)
    count = complexity(net)
    assert count["params"] / 1e6 == pytest.approx(params, abs=0.05)
    assert count["gmacs"] == pytest.approx(gmacs, abs=0.05)
    assert as_hrnets_code_counts(net) == pytest.approx(printed, abs=0.1)
