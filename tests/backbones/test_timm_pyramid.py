import pytest
import timm
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


@pytest.mark.parametrize("name", [NAME, "resnet10t", "convnext_atto"])
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_weights_from_a_file(tmp_path, caplog, name, prefix):
    torch.manual_seed(0)
    source = timm.create_model(name).state_dict()
    path = tmp_path / "imagenet.pth"
    torch.save({f"{prefix}{k}": v for k, v in source.items()}, path)
    with caplog.at_level("INFO"):
        net = TimmPyramid(name, pretrained_file=str(path))
    loaded = net.body.state_dict()
    assert len(loaded) > 40
    for tensor, value in loaded.items():  # convnext's stages.0 is stages_0 in the pyramid
        given = source.get(tensor, source.get(tensor.replace("_", ".", 1)))
        assert torch.equal(value, given), tensor
    assert "tensors (100 %)" in caplog.text


def test_weights_of_a_pose_checkpoint_fill_the_neck_too(tmp_path):
    torch.manual_seed(0)
    taught = TimmPyramid(NAME, neck_channels=8)
    weights = {f"net.backbone.{k}": v for k, v in taught.state_dict().items()}
    torch.save({"state_dict": weights, "kdpose": {}}, tmp_path / "best.ckpt")
    path = str(tmp_path / "best.ckpt")
    own = TimmPyramid(NAME, neck_channels=8, pretrained_file=path).state_dict()
    assert all(torch.equal(own[name], value) for name, value in taught.state_dict().items())
    with pytest.raises(
        ValueError, match=r"looks like backbone of a kdpose checkpoint: matched \d\d"
    ):
        TimmPyramid(NAME, neck_channels=16, pretrained_file=path)


def test_weights_of_another_network(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    wanted = (
        r"other\.pth \(from backbone\.pretrained_file, for \w+\) looks like a ResNet.*: matched 0 %"
    )
    with pytest.raises(ValueError, match=wanted):
        TimmPyramid(NAME, pretrained_file=str(tmp_path / "other.pth"))


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=rf"weights of '{NAME}' could not be fetched"):
        TimmPyramid(NAME, pretrained=True)


def test_missing_weights(tmp_path):
    match = rf"no checkpoint at {tmp_path}/none.pth \(from backbone.pretrained_file\)"
    with pytest.raises(FileNotFoundError, match=match):
        TimmPyramid(NAME, pretrained_file=str(tmp_path / "none.pth"))
