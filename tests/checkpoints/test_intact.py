"""Damaged checkpoints are refused in one line, and a write that fails loses nothing."""

import os
import random

import pytest
import torch

from kdpose.checkpoints import intact
from kdpose.checkpoints.intact import damage, save_whole
from kdpose.checkpoints.load import load_net
from kdpose.checkpoints.tensors import read_checkpoint


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "last.ckpt"
    save_whole({"state_dict": {"a": torch.arange(999.0), "b": torch.ones(7)}, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("share", [0, 1e-4, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(tiny_checkpoints, tmp_path, refused, share):
    path = tmp_path / "cut.ckpt"
    whole = tiny_checkpoints["student"].read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "train it again" in refused(path, load_net, path)


def test_zeros_and_pages_of_the_web_are_refused(tiny_checkpoints, tmp_path, refused):
    path = tmp_path / "x.ckpt"
    path.write_bytes(bytes(tiny_checkpoints["student"].stat().st_size))
    assert "zeros" in refused(path, load_net, path)
    path.write_text("<!DOCTYPE html><title>404</title>")
    assert "a web page" in refused(path, load_net, path)


def test_a_flipped_byte_is_refused_or_changes_no_value(small, refused):
    content, whole = read_checkpoint(small), small.read_bytes()
    draw, refusals = random.Random(0), 0
    for place in draw.sample(range(len(whole)), 400):
        small.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read = read_checkpoint(small)
        except ValueError:
            refused(small, read_checkpoint, small)
            refusals += 1
            continue
        assert read["epoch"] == 3
        assert all(torch.equal(v, content["state_dict"][k]) for k, v in read["state_dict"].items())
    assert refusals > 200


def test_files_without_checksums_are_read(tmp_path):
    path = tmp_path / "other.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"state_dict": {"a": torch.ones(3)}}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert damage(path) is None
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert list(read_checkpoint(path)) == ["a"]


def test_the_one_before_is_kept(small):
    save_whole({"epoch": 4}, small, small.with_name("last.1.ckpt"))
    assert read_checkpoint(small)["epoch"] == 4
    assert read_checkpoint(small.with_name("last.1.ckpt"))["epoch"] == 3
    small.write_bytes(small.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"the one before is .*last\.1\.ckpt"):
        read_checkpoint(small)


@pytest.mark.parametrize("after", [0, 5000])
def test_a_full_disk_loses_nothing(small, monkeypatch, after):
    class Full:
        def __init__(self, file):
            self.file, self.left = file, after

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    save = torch.save
    monkeypatch.setattr(intact.torch, "save", lambda content, file: save(content, Full(file)))
    before = small.read_bytes()
    with pytest.raises(OSError, match=r"last\.ckpt cannot be written .*free space"):
        save_whole({"state_dict": torch.ones(9999)}, small, small.with_name("last.1.ckpt"))
    assert small.read_bytes() == before
    assert os.listdir(small.parent) == ["last.ckpt"]
