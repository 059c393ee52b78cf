"""Backbones are filled from files of other projects and of our own, and by what cannot fit not."""

import re

import pytest
import timm
import torch
from omegaconf import OmegaConf

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.movenet import MoveNetPyramid
from kdpose.backbones.timm_map import TimmMap
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.backbones.vit import ViT
from kdpose.checkpoints.pretrained import build_backbone, fill

NAME = "mobilenetv4_conv_small_050"


def filled(backbone, path):
    fill(backbone, str(path))
    return backbone


@pytest.mark.parametrize("layout", ["imagenet", "mmpose", "official", "kdpose"])
def test_an_hrnets_weights(tmp_path, caplog, layout):
    torch.manual_seed(0)
    source = timm.create_model("hrnet_w18_small").state_dict()
    classifier = r"incre_modules|downsamp_modules|final_layer|classifier"
    bare = {k: v for k, v in source.items() if not re.match(classifier, k)}
    pose = {"final_layer.weight": torch.zeros(17, 16, 1, 1), "final_layer.bias": torch.zeros(17)}
    content = {
        "imagenet": source,
        "mmpose": {"state_dict": {f"backbone.{k}": v for k, v in bare.items()}},
        "official": {f"module.{k}": v for k, v in (bare | pose).items()},
        "kdpose": {"state_dict": {f"net.backbone.body.{k}": v for k, v in bare.items()}},
    }[layout]
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with caplog.at_level("INFO"):
        net = filled(HRNet("hrnet_w18_small"), path)
    loaded = net.body.state_dict()
    assert len(loaded) > 300
    assert all(torch.equal(value, source[name]) for name, value in loaded.items())
    count = len([name for name in loaded if not name.endswith("num_batches_tracked")])
    wanted = rf"backbone\.pretrained_file: \w+ HRNet-W16.*: {count} of {count} tensors \(100 %\)"
    assert re.fullmatch(wanted, caplog.messages[-1])


@pytest.mark.parametrize(
    ("other", "told"), [("hrnet_w18", "ImageNet HRNet-W18"), ("resnet10t", "a ResNet, by layer4")]
)
def test_an_hrnet_of_another_width_or_none(tmp_path, other, told):
    torch.save(timm.create_model(other).state_dict(), tmp_path / "other.pth")
    wanted = (
        rf"\(from backbone\.pretrained_file, for \w+\) looks like {told}.*: matched \d+ % of the"
    )
    with pytest.raises(ValueError, match=wanted):
        filled(HRNet("hrnet_w18_small"), tmp_path / "other.pth")


@pytest.mark.parametrize("name", [NAME, "resnet10t", "convnext_atto"])
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_a_pyramids_weights(tmp_path, caplog, name, prefix):
    torch.manual_seed(0)
    source = timm.create_model(name).state_dict()
    path = tmp_path / "imagenet.pth"
    torch.save({f"{prefix}{k}": v for k, v in source.items()}, path)
    with caplog.at_level("INFO"):
        net = filled(TimmPyramid(name), path)
    loaded = net.body.state_dict()
    assert len(loaded) > 40
    for tensor, value in loaded.items():  # convnext's stages.0 is stages_0 in the pyramid
        given = source.get(tensor, source.get(tensor.replace("_", ".", 1)))
        assert torch.equal(value, given), tensor
    assert "tensors (100 %)" in caplog.text


def test_a_last_maps_weights(tmp_path):
    torch.manual_seed(0)
    source = timm.create_model("resnet10t")
    torch.save(source.state_dict(), tmp_path / "imagenet.pth")
    net = filled(TimmMap("resnet10t"), tmp_path / "imagenet.pth").eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net(image)[0], source.eval().forward_features(image))


def test_a_transformers_weights_with_its_position_embedding_stretched(tmp_path, caplog):
    torch.manual_seed(0)
    tiny = {"embed_dim": 24, "depth": 2, "num_heads": 3}
    source = timm.create_model("vit_tiny_patch16_224", **tiny).state_dict()
    row = torch.arange(14.0)[:, None, None].expand(14, 14, 12)
    column = torch.arange(14.0)[None, :, None].expand(14, 14, 12)
    grid = torch.cat([column, row], -1).flatten(0, 1)
    source["pos_embed"] = torch.cat([torch.full((1, 24), 99.0), grid])[None]
    torch.save(source, tmp_path / "imagenet.pth")
    with caplog.at_level("INFO"):
        net = filled(
            ViT("vit_tiny_patch16_224", (96, 224), model_args=tiny), tmp_path / "imagenet.pth"
        )
    assert "tensors (100 %)" in caplog.text
    own = net.body.state_dict()
    place = own.pop("pos_embed")[0]
    assert all(torch.equal(value, source[name]) for name, value in own.items())
    assert torch.equal(place[0], torch.full((24,), 99.0))  # the class token's
    place = place[1:].reshape(14, 6, 24)
    # the middle of cell i of 6 is at (i + 1/2) 14 / 6 - 1/2 of 14
    columns = (torch.arange(6) + 0.5) * 14 / 6 - 0.5
    torch.testing.assert_close(place[3, 1:-1, 0], columns[1:-1], rtol=0, atol=0.15)
    torch.testing.assert_close(place[2:-2, 3, 20], torch.arange(2.0, 12.0), rtol=0, atol=0.01)
    again = tmp_path / "best.ckpt"
    torch.save({f"net.backbone.{k}": v for k, v in net.state_dict().items()}, again)
    back = filled(ViT("vit_tiny_patch16_224", (96, 224), model_args=tiny), again).state_dict()
    assert all(torch.equal(back[name], value) for name, value in net.state_dict().items())


def test_weights_of_a_pose_checkpoint_fill_the_neck_too(tmp_path):
    torch.manual_seed(0)
    taught = TimmPyramid(NAME, neck_channels=8)
    weights = {f"net.backbone.{k}": v for k, v in taught.state_dict().items()}
    torch.save({"state_dict": weights, "kdpose": {}}, tmp_path / "best.ckpt")
    path = tmp_path / "best.ckpt"
    own = filled(TimmPyramid(NAME, neck_channels=8), path).state_dict()
    assert all(torch.equal(own[name], value) for name, value in taught.state_dict().items())
    with pytest.raises(
        ValueError, match=r"looks like backbone of a kdpose checkpoint: matched \d\d"
    ):
        filled(TimmPyramid(NAME, neck_channels=16), path)


def test_a_pyramid_of_another_network(tmp_path):
    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "other.pth")
    wanted = (
        r"other\.pth \(from backbone\.pretrained_file, for \w+\) looks like a ResNet.*: matched 0 %"
    )
    with pytest.raises(ValueError, match=wanted):
        filled(TimmPyramid(NAME), tmp_path / "other.pth")


def test_missing_weights(tmp_path):
    match = rf"no checkpoint at {tmp_path}/none.pth \(from backbone.pretrained_file\)"
    with pytest.raises(FileNotFoundError, match=match):
        filled(HRNet("hrnet_w18_small"), tmp_path / "none.pth")


def test_other_backbones_have_another_way(tmp_path):
    with pytest.raises(ValueError, match=r"not MoveNetPyramid: take start=PATH"):
        filled(MoveNetPyramid(), tmp_path / "none.pth")


def test_a_configured_file_goes_before_the_hub(tmp_path):
    source = TimmPyramid(NAME, neck_channels=8)
    weights = {f"net.backbone.{k}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "best.ckpt")
    cfg = OmegaConf.create(
        {
            "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
            "name": NAME,
            "neck_channels": 8,
            "pretrained": True,
            "pretrained_file": str(tmp_path / "best.ckpt"),
        }
    )
    own = build_backbone(cfg).state_dict()
    assert all(torch.equal(own[name], value) for name, value in source.state_dict().items())
    (tmp_path / "best.ckpt").unlink()
    assert build_backbone(cfg, weights=False).state_dict().keys() == own.keys()
