import json
import sys

import pytest

from kdpose import benchmark


@pytest.fixture
def command(monkeypatch):
    def run(*words):
        common = ["what=infer", "codec.input_size=[32,32]", "repeats=1"]
        student = ["backbone=resnet10_narrow", "head.init=projection"]
        monkeypatch.setattr(sys, "argv", ["kdpose", *common, *student, *words])
        benchmark.main()

    return run


def test_the_command(command, tmp_path):
    out = tmp_path / "infer.json"
    command("what.cases.backbones=[mobilenetv4_tiny]", f"out={out}")
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    for name in ("student", "mobilenetv4_tiny"):
        for count in (1, 8):
            row = rows[f"{name}, batch {count}"]
            assert row["facts"].keys() == {"params M", "GMACs"}
            assert row["median"] > 0
    student = rows["student, batch 8"]
    assert rows["mobilenetv4_tiny, batch 8"]["reference"] == "student, batch 8"
    assert rows["student, flip test"]["median"] < student["median"]  # two passes
    assert rows["decoding"]["median"] > student["median"]
    # the predictor decodes as well
    assert rows["preparation and decoding"]["median"] < rows["decoding"]["median"]
    assert rows["refiner"]["ratio"] == pytest.approx(rows["refiner"]["median"] / student["median"])


def test_an_unknown_backbone(command, capsys):
    with pytest.raises(SystemExit):
        command("what.cases.backbones=[hrnet_w33]")
    assert "what.cases.backbones must be of ['efficientvit_b0'," in capsys.readouterr().err
