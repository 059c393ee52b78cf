import numpy as np
import pytest
import torch

from kdpose.backbones.timm_map import TimmMap
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.heads.deconvolutions import DeconvolutionsHead
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO


def spread_out(x, weight):
    """A transposed convolution 4x4 of stride 2, padding 1: each cell is laid down, scaled."""
    inputs, height, width = x.shape
    out = np.zeros((weight.shape[1], 2 * height + 2, 2 * width + 2))
    for c, row, column in np.ndindex(inputs, height, width):
        out[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += x[c, row, column] * weight[c]
    return out[:, 1:-1, 1:-1]


@pytest.mark.parametrize(("cells", "count"), [((3, 4), 2), ((6, 2), 3)])
def test_forward_against_a_loop(cells, count):
    torch.manual_seed(0)
    bins = (cells[0] << count, cells[1] << count)
    head = DeconvolutionsHead(5, 3, cells, bins, channels=4).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    feature = torch.randn(2, 5, cells[1], cells[0])
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    for b in range(2):
        x = feature[b].double().numpy()
        for i in range(count):
            name = f"deconv_layers.{3 * i + 1}"
            x = spread_out(x, state[f"deconv_layers.{3 * i}.weight"]) / np.sqrt(1 + 1e-5)
            x = x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]
            x = np.maximum(x, 0)
        weight = state["final_layer.weight"][:, :, 0, 0]
        wanted = np.einsum("kc,chw->khw", weight, x) + state["final_layer.bias"][:, None, None]
        np.testing.assert_allclose(head(feature)[b].detach(), wanted, rtol=1e-3, atol=1e-3)


def test_start():
    torch.manual_seed(0)
    head = DeconvolutionsHead(256, 17, (6, 8), (48, 64))
    layers = [layer for layer in head.deconv_layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert len(layers) == 3
    for layer in (*layers, head.final_layer):
        assert layer.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert head.final_layer.bias.abs().max() == 0


@pytest.mark.parametrize(
    ("cells", "bins"),
    [((6, 8), (48, 56)), ((6, 8), (36, 48)), ((48, 64), (24, 32)), ((3, 4), (384, 512))],
)
def test_sizes_that_are_no_doublings(cells, bins):
    with pytest.raises(
        ValueError,
        match=r"one to 4 times, which does not give the codec's \(\d+, \d+\): take codec",
    ):
        DeconvolutionsHead(4, 3, cells, bins)


def test_a_feature_of_the_codecs_size():
    with pytest.raises(ValueError, match=r"has the \(12, 16\) cells .* already: take head=heatmap"):
        DeconvolutionsHead(4, 3, (12, 16), (12, 16))


def test_too_many_channels():
    with pytest.raises(ValueError, match=r"head\.channels must be 1 to 4096, got 100000"):
        DeconvolutionsHead(4, 3, (6, 8), (48, 64), channels=100_000)


def test_a_crop_that_the_stride_does_not_divide():
    narrow = {"channels": [8, 8, 8, 8], "stem_width": 8}
    backbone = TimmMap("resnet10t", model_args=narrow)
    with pytest.raises(ValueError, match=r"double the feature's \(2, 2\) cells.*\(12, 16\)"):
        PoseNet(backbone, DeconvolutionsHead, Heatmap((48, 64)), COCO)
    with pytest.raises(ValueError, match=r"the feature's \(2, 2\) cells.*\(100, 128\): take codec"):
        PoseNet(backbone, DeconvolutionsHead, SimCC((50, 64)), COCO)
