"""Checkpoints rebuild their network, and say what is wrong with those that cannot."""

import re

import pytest
import torch

import kdpose
from kdpose.checkpoints.load import load_made_by_run, load_net, load_teacher
from kdpose.skeletons.known import CROWDPOSE

RECIPE = {
    "_target_": "kdpose.pose_net.PoseNet",
    "backbone": {
        "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
        "name": "mobilenetv4_conv_small_050",
        "neck_channels": 8,
    },
    "head": {"_target_": "kdpose.heads.simcc.SimCCHead", "_partial_": True},
    "codec": {"_target_": "kdpose.codecs.simcc.SimCC", "input_size": [48, 64]},
    "skeleton": {
        "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
        "values": CROWDPOSE.to_dict(),
    },
}


@pytest.fixture
def written(tmp_path):
    """A checkpoint of random weights, and the network in it."""
    from hydra.utils import instantiate

    net = instantiate(RECIPE, _convert_="all").eval()
    path = tmp_path / "best.ckpt"
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    content = {"state_dict": weights, "kdpose": {"net": RECIPE, "dataset": {"name": "tiny"}}}
    torch.save(content, path)
    return path, net, content


def test_a_checkpoint_rebuilds_its_network(written):
    path, net, _ = written
    loaded = load_net(path)
    image = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    with torch.no_grad():
        for ours, theirs in zip(loaded.net.pose(image), net.pose(image), strict=True):
            assert torch.equal(ours, theirs)
    assert loaded.net.skeleton == CROWDPOSE
    assert loaded.description["dataset"] == {"name": "tiny"}
    assert not load_teacher(str(path)).training
    assert kdpose.load(path).skeleton.joints == CROWDPOSE.joints


@pytest.mark.parametrize("start", [b"<!DOCTYPE html>", b"version https://git-lfs"])
def test_other_files_are_named_for_what_they_are(tmp_path, start):
    path = tmp_path / "weights.pth"
    path.write_bytes(start)
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"is not a checkpoint of tensors and plain values: it starts with {start!r}"
        ),
    ):
        load_net(path)


def test_a_file_without_weights_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth \(from ckpt\) holds no tensor"):
        load_net(tmp_path / "other.pth")


def test_a_teacher_of_our_own_is_announced(written, caplog):
    path, _, _ = written
    with caplog.at_level("INFO"):
        load_teacher(str(path), label="gaussian")  # for other projects' files alone
    (line,) = caplog.messages
    assert re.fullmatch(
        r"teacher\.ckpt: kdpose network, 14 joints \(crowdpose\), 48x64: "
        r"(\d+) of \1 tensors \(100 %\)",
        line,
    )


def test_a_missing_file_of_another_project_is_just_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint at .*pose\.pth \(from teacher\.c"):
        load_teacher(str(tmp_path / "pose.pth"))


def test_a_checkpoint_cannot_run_foreign_code(written):
    path, _, content = written
    content["kdpose"]["net"] = {**RECIPE, "head": {"_target_": "os.system", "command": "true"}}
    torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"asks for .os\.system., which a checkpoint may not build"
    ):
        load_net(path)


def test_weights_that_do_not_fit_are_counted(written):
    path, _, content = written
    content["state_dict"].pop("net.head.final_layer.bias")
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"1 tensors missing \['head\.final_layer\.bias'\]"):
        load_net(path)


def test_a_missing_stage_says_which_command_makes_it(tmp_path):
    missing = tmp_path / "crowdpose_stage1" / "best.ckpt"
    wanted = (
        r"from stage1_ckpt\); train it by "
        r"`kdpose train \+experiment=stage1 dataset=crowdpose` or set stage1_ckpt=PATH"
    )
    with pytest.raises(FileNotFoundError, match=wanted):
        load_made_by_run(missing, "stage1_ckpt")
    with pytest.raises(FileNotFoundError, match=r"from stage1_ckpt\); set stage1_ckpt=PATH"):
        load_made_by_run(tmp_path / "mine" / "best.ckpt", "stage1_ckpt")
