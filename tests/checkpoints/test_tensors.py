"""Files of weights are read without running code, and refused by a reason a user can act on."""

import re
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdpose.checkpoints.tensors import announce, fit, read_checkpoint, share, tensors


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"<!DOCTYPE html><html>", "a web page, so the download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1", "fetch the file itself by `git lfs pull`"),
        (b"\x89HDF\r\n", "an HDF5 file, of Keras"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_other_kinds(tmp_path, start, reason, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(start)
    wanted = rf"^{path} \(from teacher\.ckpt\) is not a checkpoint .*{re.escape(repr(start[:24]))} "
    with pytest.raises(ValueError, match=rf"{wanted}\(.*{reason}\); copy it again"):
        read_checkpoint(path, "teacher.ckpt")


@pytest.mark.parametrize(
    ("start", "reason"), [(b"", "it is empty"), (b"PK\x03\x04 cut off", "it is cut short")]
)
def test_a_damaged_file_is_told_from_one_of_another_kind(tmp_path, start, reason):
    path = tmp_path / "weights.pth"
    path.write_bytes(start)
    with pytest.raises(ValueError, match=rf"^{path} \(from teacher\.ckpt\) is damaged: {reason}"):
        read_checkpoint(path, "teacher.ckpt")


def test_a_file_that_needs_foreign_code(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {}, "message_hub": PurePosixPath("x")}, path)
    with pytest.raises(ValueError, match=r"not read: it holds a 'pathlib\.PurePosixPath', which"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list where a checkpoint is a dict"):
        read_checkpoint(path)


def test_what_official_training_keeps_beside_the_weights_is_read(tmp_path):
    content = {"perf": np.float64(0.75), "state_dict": OrderedDict(a=torch.ones(2)), "epoch": 3}
    torch.save(content, tmp_path / "checkpoint.pth")
    read = read_checkpoint(tmp_path / "checkpoint.pth")
    assert read["perf"] == 0.75
    assert read["state_dict"]["a"].tolist() == [1, 1]


def test_safetensors(tmp_path):
    save_file({"a": torch.arange(3.0)}, tmp_path / "model.safetensors")
    assert read_checkpoint(tmp_path / "model.safetensors")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": {f"module.{k}": v for k, v in w.items()}, "epoch": 3},
        lambda w: {"model": {f"_orig_mod.module.{k}": v for k, v in w.items()}},
        lambda w: {"model": {"state_dict": {f"net.student.{k}": v for k, v in w.items()}}},
        lambda w: {"model": "pose_hrnet", "state_dict": w},
    ],
)
def test_wrappings(wrap):
    weights = {"a.weight": torch.ones(1), "_b._orig_modest": torch.zeros(1)}
    found = tensors(wrap(weights), "x")
    assert found.keys() == weights.keys()
    assert all(found[name] is value for name, value in weights.items())


def test_no_tensors():
    with pytest.raises(ValueError, match=r"x\.pth holds no tensor, only \['epoch', 'meta'\]"):
        tensors({"meta": {}, "epoch": 3}, "x.pth")


def body():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_share_counts_names_of_the_right_shape():
    weights = {k: v for k, v in body().state_dict().items() if "tracked" not in k}
    assert share(body(), weights) == (6, [])
    weights["1.bias"] = torch.zeros(5)
    weights.pop("0.bias")
    assert share(body(), weights) == (4, ["0.bias", "1.bias"])


def test_fit(caplog):
    theirs, mine = body(), body()
    with caplog.at_level("INFO"):
        fit(mine, {**theirs.state_dict(), "more": torch.zeros(1)}, "a net", "key", "x.pth")
    assert caplog.messages == ["key: a net: 6 of 6 tensors (100 %)"]
    assert torch.equal(mine[0].weight, theirs[0].weight)
    half = {k: v for k, v in theirs.state_dict().items() if k.startswith("1.")}
    wanted = r"^x\.pth looks like a net: matched 66 % of .* 6 tensors, not 0\.weight, 0\.bias$"
    with pytest.raises(ValueError, match=wanted):
        fit(mine, half, "a net", "key", "x.pth")


def test_less_than_all_is_never_100_percent(caplog):
    announce("key", "a net", 999, ["bias"])
    assert caplog.messages == ["key: a net: 999 of 1000 tensors (99 %); left at random: bias"]
