"""The other package's names: turned round from a timm network by their rules, and read back."""

import re

import pytest
import timm
import torch

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.efficientnet_names import timm_names
from kdpose.checkpoints.pretrained import fill

PARTS = {
    "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
    "conv_pwl": "_project_conv", "bn3": "_bn2",
}  # fmt: skip
FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
REST = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}


def as_packaged(net):
    """The weights of a timm network as the other package names them."""
    found, blocks = {}, []
    for name, tensor in net.state_dict().items():
        if name.startswith("blocks."):
            _, stage, place, part, rest = re.split(r"\.", name, maxsplit=4)
            if (stage, place) not in blocks:
                blocks.append((stage, place))
            number = blocks.index((stage, place))
            parts = PARTS if number else FIRST
            found[f"_blocks.{number}.{parts[part]}.{rest}"] = tensor
        elif not name.startswith("classifier"):
            part, rest = name.split(".", 1)
            found[f"{REST[part]}.{rest}"] = tensor
    return found


def test_every_tensor_comes_home():
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    own = net.state_dict()
    read = timm_names(as_packaged(net), list(own))
    assert read.keys() == own.keys()
    assert all(torch.equal(read[name], own[name]) for name in own)


def test_other_layouts_stay_as_they_are():
    weights = {"conv_stem.weight": torch.zeros(1)}
    assert timm_names(weights, []) == weights


def test_a_pyramid_is_filled_from_the_file(tmp_path):
    net = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    torch.save(as_packaged(net), tmp_path / "lite0.pth")
    pyramid = TimmPyramid("tf_efficientnet_lite0", 16).eval()
    fill(pyramid, str(tmp_path / "lite0.pth"))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = net.forward_intermediates(image, intermediates_only=True)
        found = pyramid.body(image)
    torch.testing.assert_close(found[0], expected[1])
    torch.testing.assert_close(found[-1], expected[-1])


@pytest.mark.parametrize("wanted", ["tf_efficientnet_lite0", "hrnet_w18_small"])
def test_a_file_of_another_size_says_what_it_is(tmp_path, wanted):
    torch.save(as_packaged(timm.create_model("tf_efficientnet_lite1")), tmp_path / "lite1.pth")
    backbone = HRNet(wanted) if wanted.startswith("hrnet") else TimmPyramid(wanted, 16)
    with pytest.raises(ValueError, match="an EfficientNet of 21 blocks of efficientnet_pytorch"):
        fill(backbone, str(tmp_path / "lite1.pth"))
