"""The real command, in process: files that pass their gate, files that do not, refusals."""

import json
import sys

import numpy as np
import pytest
import torch

import kdpose.deploy.export
import kdpose.export
from kdpose.data.bundled import FOLDER
from kdpose.deploy.runner import open_model

QUICK = ("gate.persons=12", "latency.rounds=2", "latency.batch=[1]")


def export(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["kdpose.export", *map(str, overrides)])
    kdpose.export.main()


def refused(monkeypatch, capsys, *overrides):
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as ended:
        export(monkeypatch, *overrides)
    assert ended.value.code == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


@pytest.mark.slow
def test_an_onnx_file_with_report_and_runner(monkeypatch, ckpt, tmp_path, crops, expected):
    out = tmp_path / "out"
    export(monkeypatch, f"ckpt={ckpt}", f"out={out}", "license=CC0", *QUICK)
    assert {path.name for path in out.iterdir()} == {
        "tiny_fp32.onnx",
        "tiny_fp32.json",
        "runner.py",
    }
    report = json.loads((out / "tiny_fp32.json").read_text())
    assert report["passed"] is True
    assert report["max_px"] <= 0.05
    assert report["p95_px"] <= 0.05
    assert report["ap_loss"] == 0
    assert report["persons"] >= 12
    assert report["latency"]["1"]["speedup"] > 0
    assert report["bytes"] == (out / "tiny_fp32.onnx").stat().st_size
    says, network = open_model(str(out / "tiny_fp32.onnx"), 1)
    assert says["license"]["weights"] == "CC0"
    np.testing.assert_allclose(network(crops)[0], expected[0], atol=1e-3)


@pytest.mark.slow
def test_a_stage_of_an_ablation_is_named_without_its_folder(monkeypatch, ckpt, tmp_path):
    content = torch.load(ckpt, weights_only=True)
    content["kdpose"]["experiment"] = "ablation/stage2_s0"
    torch.save(content, tmp_path / "best.ckpt")
    out = tmp_path / "out"
    export(monkeypatch, f"ckpt={tmp_path}/best.ckpt", f"out={out}", "format=pt2", *QUICK)
    assert (out / "stage2_s0_fp32.pt2").is_file()


@pytest.mark.slow
def test_what_is_beyond_its_budget_is_rejected(monkeypatch, capsys, ckpt, tmp_path):
    out = tmp_path / "out"
    line = refused(
        monkeypatch,
        capsys,
        f"ckpt={ckpt}",
        f"out={out}",
        "precision=int8",
        "gate.px.int8=0.01",  # a network in integers cannot keep this
        "calibration.persons=8",
        "calibration.share=null",  # or all of an untrained network stays in float
        "calibration.scored=12",
        *QUICK,
    )
    assert f"{out}/rejected/tiny_int8.onnx is rejected: gate failed: a joint moves" in line
    assert "(budget 0.01 px)" in line
    assert "costliest in int8: " in line
    assert [path.name for path in out.iterdir()] == ["rejected"]
    report = json.loads((out / "rejected" / "tiny_int8.json").read_text())
    assert report["passed"] is False
    assert report["max_px"] > 0.01
    says, _ = open_model(str(out / "rejected" / "tiny_int8.onnx"), 1)
    assert says["precision"] == "int8"
    assert says["float_groups"] == report["float_groups"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=tflite"], "format must be one of onnx, openvino, pt2 and precision one of"),
        (["precision=int4"], "precision one of fp32, fp16, int8, got onnx and int4"),
        (["format=pt2", "precision=int8"], "torch has no 8-bit convolution: take format=onnx"),
        (["gate.annotations=/nowhere/a.json"], "no annotations at /nowhere/a.json (from gate."),
        (["precision=int8", "calibration.images=/nowhere"], "no image folder at /nowhere"),
        (["gate.persons=2"], "gate.persons=2 is too few: at least 10"),
    ],
)
def test_refusals(monkeypatch, capsys, ckpt, tmp_path, overrides, message):
    quick = [f"ckpt={ckpt}", f"out={tmp_path}", *QUICK]
    assert message in refused(monkeypatch, capsys, *quick, *overrides)


def test_packages_that_are_missing_are_named(monkeypatch, capsys, ckpt):
    monkeypatch.setattr(
        kdpose.deploy.export, "find_spec", lambda name: None if name == "nncf" else 1
    )
    line = refused(monkeypatch, capsys, f"ckpt={ckpt}")
    assert line == "error: exports need nncf: pip install 'kdpose[export]'"


@pytest.mark.slow
def test_without_a_checkpoint_the_bundled_student_is_exported(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDPOSE_DATA", raising=False)
    export(monkeypatch, "format=pt2", "gate.persons=10", *QUICK[1:])
    report = json.loads((tmp_path / "exported" / "bundled_stage2_fp32.json").read_text())
    assert report["passed"] is True
    assert report["source"] == str(FOLDER / "gate.json")
    assert report["ap_loss"] == 0
    assert report["drawn"] < report["joints"]
