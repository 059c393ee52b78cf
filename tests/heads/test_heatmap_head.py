from functools import partial

import pytest
import torch
import torch.nn.functional as F

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.heads.heatmap import HeatmapHead
from kdpose.losses.heatmap_mse import heatmap_mse
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_forward_is_one_convolution(batch, joints):
    head = HeatmapHead(5, joints, (3, 4), (3, 4))
    feature = torch.randn(batch, 5, 4, 3)
    weight, bias = head.final_layer.weight[:, :, 0, 0], head.final_layer.bias
    wanted = torch.einsum("kc,bchw->bkhw", weight, feature) + bias[:, None, None]
    torch.testing.assert_close(head(feature), wanted)
    assert set(head.state_dict()) == {"final_layer.weight", "final_layer.bias"}


def test_start():
    torch.manual_seed(0)
    head = HeatmapHead(48, 17, (48, 64), (48, 64))
    assert head.final_layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.final_layer.bias.abs().max() == 0


def test_another_codecs_sizes():
    net = partial(PoseNet, TimmPyramid("resnet10t", neck_channels=8), HeatmapHead)
    with pytest.raises(ValueError, match=r"\(12, 16\).*\(96, 128\): take codec=heatmap"):
        net(SimCC((48, 64)), COCO)
    assert net(Heatmap((48, 64)), COCO).eval().pose(torch.zeros(1, 3, 64, 48)).joints.shape == (
        1,
        17,
        2,
    )


def test_a_heatmap_network_learns_its_joints():
    torch.manual_seed(0)
    codec = Heatmap((48, 64))
    narrow = {"channels": [16, 24, 32, 48], "stem_width": 8}
    backbone = TimmPyramid("resnet10t", neck_channels=32, model_args=narrow)
    net = PoseNet(backbone, HeatmapHead, codec, COCO)
    joints = torch.rand(4, 17, 2) * torch.tensor([40.0, 56.0])
    image = F.interpolate(torch.rand(4, 3, 8, 6) * 255, scale_factor=8)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    target = codec.encode(joints, torch.ones(4, 17))
    for _ in range(80):
        optimizer.zero_grad()
        heatmap_mse(net(image).logits, target).backward()
        optimizer.step()
    net.train()  # four crops are too few for running statistics
    error = (net.pose(image).joints - joints).norm(dim=-1)
    assert error.median() < 3
