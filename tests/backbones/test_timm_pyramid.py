import pytest
import torch
import torch.nn.functional as F

from kdpose.backbones.timm_pyramid import TimmPyramid

NAME = "mobilenetv4_conv_small_050"


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(96, 64), (100, 60)])
def test_maps(batch, height, width):
    net = TimmPyramid(NAME, neck_channels=24).eval()
    assert net.strides == (4, 8, 16, 32)
    assert net.channels == (24, 24, 24, 24)
    maps = net(torch.randn(batch, 3, height, width))
    assert [tuple(m.shape) for m in maps] == [
        (batch, 24, -(-height // s), -(-width // s)) for s in net.strides
    ]
    assert isinstance(maps, tuple)


def test_levels_are_merged_from_the_top_down():
    torch.manual_seed(0)
    net = TimmPyramid(NAME, neck_channels=24).eval()
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        levels = net.body(image)
        merged = net.neck.inner_blocks[3](levels[3])
        expected = [merged]
        for i in (2, 1, 0):
            lateral = net.neck.inner_blocks[i](levels[i])
            merged = lateral + F.interpolate(merged, lateral.shape[-2:])
            expected.insert(0, merged)
        expected[0] = net.neck.layer_blocks[0](expected[0])
        for mine, reference in zip(net(image), expected, strict=True):
            torch.testing.assert_close(mine, reference)


def test_everything_is_trained_through_the_finest_map():
    net = TimmPyramid(NAME, neck_channels=24)
    maps = net(torch.randn(2, 3, 64, 64))
    (maps[0] * torch.randn_like(maps[0])).sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_any_timm_pyramid_will_do():
    net = TimmPyramid("resnet10t", neck_channels=8).eval()
    assert net.strides == (4, 8, 16, 32)
    assert net(torch.randn(1, 3, 64, 64))[0].shape == (1, 8, 16, 16)


def test_arguments_of_the_model():
    narrow = {"channels": [8, 16, 24, 32], "stem_width": 8}
    net = TimmPyramid("resnet10t", neck_channels=8, model_args=narrow)
    assert net.body.feature_info.channels() == [8, 16, 24, 32]
    assert [block[0].in_channels for block in net.neck.inner_blocks] == [8, 16, 24, 32]


def test_a_model_without_a_stride_4_map():
    with pytest.raises(
        ValueError, match=r"vit_tiny_patch16_224 has maps at strides \[16, .*needs 4"
    ):
        TimmPyramid("vit_tiny_patch16_224")


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=rf"weights of '{NAME}' could not be fetched"):
        TimmPyramid(NAME, pretrained=True)
