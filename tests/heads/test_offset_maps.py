import pytest
import torch

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.udp_offsets import UDPOffsets
from kdpose.heads.heatmap import HeatmapHead
from kdpose.heads.offset_maps import OffsetMapsHead
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO


def test_three_maps_of_a_joint_stand_together():
    torch.manual_seed(0)
    head = OffsetMapsHead(5, 14, (3, 4), (3, 4))
    plain = HeatmapHead(5, 42, (3, 4), (3, 4))
    plain.load_state_dict(head.state_dict())
    feature = torch.randn(2, 5, 4, 3)
    maps = head(feature)
    assert maps.shape == (2, 14, 3, 4, 3)
    torch.testing.assert_close(maps[:, 4, 2], plain(feature)[:, 14])


def test_a_network_of_it_finds_joints_with_and_without_a_flip():
    torch.manual_seed(0)
    net = PoseNet(
        TimmPyramid("resnet10t", neck_channels=8), OffsetMapsHead, UDPOffsets((48, 64)), COCO
    ).eval()
    crops = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    with torch.no_grad():
        for flip in (False, True):
            assert net.pose(crops, flip).joints.shape == (2, 17, 2)


def test_another_codecs_sizes():
    with pytest.raises(ValueError, match=r"a heatmap head needs maps .*\(3, 4\).*\(96, 128\)"):
        OffsetMapsHead(5, 14, (3, 4), (96, 128))
