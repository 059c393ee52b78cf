import re

import pytest
import timm
import torch

from kdpose.backbones.hrnet import HRNet

RAW = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}


def pair():
    """Ours and timm's own features model with the same weights, statistics not at their start."""
    torch.manual_seed(0)
    theirs = timm.create_model("hrnet_w18_small", **RAW)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    ours = HRNet("hrnet_w18_small")
    missing, unexpected = ours.body.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing
    assert all(re.match(r"stage4\.0\.fuse_layers\.[123]\.", name) for name in unexpected)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("batch", [1, 3])
def test_maps(batch):
    net = HRNet("hrnet_w18_small").eval()
    assert net.channels == (16, 32, 64, 128)
    assert net.strides == (4, 8, 16, 32)
    maps = net(torch.randn(batch, 3, 96, 64))
    shapes = [(batch, c, 96 // s, 64 // s) for c, s in zip(net.channels, net.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes
    assert isinstance(maps, tuple)


def test_finest_map_is_timms_and_the_others_are_its_branches():
    ours, theirs = pair()
    branches = {}
    for i, branch in enumerate(theirs.stage4[-1].branches):
        branch.register_forward_hook(lambda *call, i=i: branches.__setitem__(i, call[2]))
    image = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        mine, reference = ours(image), theirs(image)
    torch.testing.assert_close(mine[0], reference[0], rtol=1e-5, atol=1e-6)
    for i in (1, 2, 3):
        torch.testing.assert_close(mine[i], branches[i], rtol=0, atol=0)
        assert (mine[i] - reference[i]).abs().max() > 0.01  # timm's are fused


def test_everything_is_trained_through_the_finest_map():
    net = HRNet("hrnet_w18_small")
    maps = net(torch.randn(2, 3, 64, 64))
    (maps[0] * torch.randn_like(maps[0])).sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize(("name", "millions"), [("hrnet_w32", 28.536), ("hrnet_w48", 63.595)])
def test_parameter_counts(name, millions):
    with torch.device("meta"):
        net = HRNet(name)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(("width", "height"), [(64, 90), (72, 96)])
def test_sides_must_divide_by_32(width, height):
    with pytest.raises(ValueError, match=f"sides divide by 32, got {width}x{height}: set codec"):
        HRNet("hrnet_w18_small")(torch.zeros(1, 3, height, width))


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights of 'hrnet_w32' could not be fetched \(.*=PATH$"):
        HRNet("hrnet_w32", pretrained=True)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_fewer_stages_are_the_first_ones(stages):
    torch.manual_seed(0)
    whole = HRNet("hrnet_w18_small").eval()
    part = HRNet("hrnet_w18_small", stages=stages)
    missing, _ = part.body.load_state_dict(whole.body.state_dict(), strict=False)
    assert not missing
    seen = {}
    module = whole.body.layer1 if stages == 1 else getattr(whole.body, f"stage{stages}")
    module.register_forward_hook(lambda *call: seen.update(maps=call[2]))
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        whole(image)
        maps = part.eval()(image)
    finest = seen["maps"] if stages == 1 else seen["maps"][0]
    torch.testing.assert_close(maps[0], finest)
    shapes = [(1, c, 96 // s, 64 // s) for c, s in zip(part.channels, part.strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes
    part.train()
    first = part(torch.randn(2, 3, 64, 64))[0]
    (first * torch.randn_like(first)).sum().backward()
    assert not [n for n, p in part.named_parameters() if p.grad is None]


def test_five_stages():
    with pytest.raises(ValueError, match=r"backbone.stages must be 1, 2, 3 or 4, got 5"):
        HRNet("hrnet_w18_small", stages=5)
