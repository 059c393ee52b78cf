"""Counts against published figures, and by hand."""

import json
import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from kdpose.cli import CONF
from kdpose.codecs.simcc import SimCC
from kdpose.complexity import main
from kdpose.evaluation.cost import build, complexity, paper_complexity
from kdpose.heads.simcc import SimCCHead
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO


def built(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return build(compose("complexity", overrides=list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "honest", "paper"),
    [
        # HRNet's and SimCC's own files: 31.290 M and 7.692 G, 66.349 M and 15.739 G; the paper
        # prints 28.5 M and 7.8 G for W32, and 31 M and 8.1 G refined.
        (["+experiment=stage1", "dataset=coco"], (31.290, 7.692), (28.536, 7.779)),
        (["+experiment=teacher", "dataset=coco"], (66.349, 15.739), (63.595, 15.935)),
        (["+experiment=stage2", "dataset=coco"], (33.696, 7.972), (30.942, 8.059)),
    ],
)
@pytest.mark.slow
def test_published_counts(overrides, honest, paper):
    net = built(*overrides)
    for count, want in ((complexity(net), honest), (paper_complexity(net), paper)):
        assert count["params"] / 1e6 == pytest.approx(want[0], abs=5e-4)
        assert count["gmacs"] == pytest.approx(want[1], abs=5e-4)


class OneConv(nn.Module):
    channels, strides = (8,), (4,)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1)

    def forward(self, image):
        return (self.conv(image),)


def test_by_hand():
    net = PoseNet(OneConv(), SimCCHead, SimCC((48, 64)), COCO)
    cells, bins = 12 * 16, 96 + 128
    conv = (3 * 9 * 8, cells)
    final = (8 * 17, cells)
    params = conv[0] + 8 + final[0] + 17 + cells * bins + bins
    macs = conv[0] * conv[1] + final[0] * final[1] + 17 * cells * bins
    assert complexity(net) == {"params": params, "gmacs": pytest.approx(macs / 1e9)}
    # No HRNet: nothing was left out of the backbone, only the head's parameters do not count.
    assert paper_complexity(net) == {"params": conv[0] + 8, "gmacs": pytest.approx(macs / 1e9)}


def test_command_writes_both_counts(tmp_path, monkeypatch, capsys):
    overrides = ["backbone=mobilenetv4_tiny", "codec.input_size=[48,64]", "dataset=coco"]
    out = tmp_path / "new" / "counts.json"
    monkeypatch.setattr(sys, "argv", ["complexity", *overrides, f"out={out}"])
    monkeypatch.chdir(tmp_path)
    main()
    record = json.loads(out.read_text())
    net = built(*overrides)
    assert record["params"] == sum(p.numel() for p in net.parameters())
    assert record["paper_params"] == record["params"] - sum(
        p.numel() for p in net.head.parameters()
    )
    assert record["input_size"] == [48, 64]
    assert record["torch"] == torch.__version__
    printed = capsys.readouterr().out
    assert f"{record['params'] / 1e6:.3f}" in printed
    assert f"{record['gmacs']:.3f}" in printed
    assert "64x48 (h x w)" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["new"]  # leaves nothing else behind
