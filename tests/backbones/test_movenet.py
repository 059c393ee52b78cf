import numpy as np
import pytest
import torch

from kdpose.backbones.movenet import MoveNetPyramid
from kdpose.checkpoints.tensors import start_from
from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc_maps import SimCCMapsHead
from kdpose.pose_net import PoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import COCO


def student():
    torch.manual_seed(0)
    return PoseNet(MoveNetPyramid(), SimCCMapsHead, SimCC((96, 128), label="gaussian"), COCO)


@pytest.mark.parametrize("size", [(96, 128), (192, 256)])
def test_maps_have_the_sizes_and_channels_that_are_told(size):
    net = MoveNetPyramid().eval()
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, size[1], size[0]))
    expected = [
        (1, c, size[1] // s, size[0] // s) for c, s in zip(net.channels, net.strides, strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == expected


def test_every_parameter_is_trained_through_the_finest_map():
    net = MoveNetPyramid()
    net(torch.randn(2, 3, 64, 64))[0].sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_a_student_with_a_refiner_stays_within_six_million_parameters():
    net = PoseNet(MoveNetPyramid(), SimCCMapsHead, SimCC((192, 256)), COCO)
    refiner = IGPGCN(
        net.backbone.channels, net.backbone.strides, (192, 256), 17, COCO.limbs, 32, (32, 24, 24)
    )
    assert sum(p.numel() for part in (net, refiner) for p in part.parameters()) < 6e6


def test_a_start_fills_what_the_file_has(tmp_path):
    first, second = student(), student()
    kept = {n: v for n, v in first.state_dict().items() if "mlp_head" not in n}
    with torch.no_grad():
        for value in kept.values():
            value.add_(1)
    torch.save(kept, tmp_path / "start.pth")
    before = second.head.mlp_head_x.weight.clone()

    start_from(second, str(tmp_path / "start.pth"))

    for name, value in second.state_dict().items():
        if name in kept:
            torch.testing.assert_close(value, kept[name])
    assert torch.equal(second.head.mlp_head_x.weight, before)


def test_a_start_for_another_network_is_refused_in_one_line(tmp_path):
    torch.save({"backbone.stem.weight": torch.zeros(3)}, tmp_path / "start.pth")
    with pytest.raises(ValueError, match="1 of 1 tensors have no place") as refused:
        start_from(student(), str(tmp_path / "start.pth"))
    assert "\n" not in str(refused.value)


def test_weights_of_movenet_fit_the_body(real_data):
    """Google's features in this backbone."""
    file = real_data.parent / "models" / "movenet_lightning_mobilenetv2_100.pth"
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    weights = torch.load(file, weights_only=True)
    net = MoveNetPyramid()
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert {name.split(".")[0] for name in unexpected} <= {"classifier"}
    assert {name.split(".")[0] for name in missing} == {"top", "laterals", "smooth"}
    assert np.isfinite(net.eval()(torch.zeros(1, 3, 64, 64))[0].detach().numpy()).all()
