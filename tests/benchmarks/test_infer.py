import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hydra.utils import instantiate

from benchmarks import infer
from benchmarks.infer import LIMIT
from kdpose import benchmark
from kdpose.refiners.igp_gcn import IGPGCN


@pytest.fixture
def command(monkeypatch):
    def run(*words):
        common = ["what=infer", "codec.input_size=[32,32]", "repeats=1"]
        student = ["backbone=resnet10_narrow", "head.init=projection"]
        monkeypatch.setattr(sys, "argv", ["kdpose", *common, *student, *words])
        benchmark.main()

    return run


@pytest.mark.slow
def test_the_command(command, tmp_path):
    out = tmp_path / "infer.json"
    command("what.cases.backbones=[mobilenetv4_tiny]", "what.cases.runtimes=[]", f"out={out}")
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    for name in ("student", "mobilenetv4_tiny"):
        for count in (1, 8):
            row = rows[f"{name}, batch {count}"]
            assert row["facts"].keys() == {"params M", "GMACs"}
            assert row["median"] > 0
            assert 0 < row["share"] < 1
    student, tiny = rows["student, batch 8"], rows["mobilenetv4_tiny, batch 8"]
    top = rows[LIMIT]["median"]
    assert student["share"] == pytest.approx(student["median"] / top)
    cost = tiny["facts"]["GMACs"] / student["facts"]["GMACs"]
    assert tiny["share"] == pytest.approx(cost * tiny["median"] / top)
    assert "Of limit: the share" in out.with_suffix(".md").read_text()
    assert rows["mobilenetv4_tiny, batch 8"]["reference"] == "student, batch 8"
    flip, copying = rows["student, flip test"], rows["copying the scores"]
    assert flip["share"] == pytest.approx(2 * flip["median"] / top)
    assert 0 < rows["refiner"]["share"] < 1
    decoding = rows["decoding"]
    assert decoding["share"] == pytest.approx(decoding["median"] / copying["median"])
    assert rows["preparation and decoding"]["limit"] == "copying the crops"
    assert rows["refiner"]["ratio"] == pytest.approx(rows["refiner"]["median"] / student["median"])


def test_what_is_measured_around_the_network(tiny_student, monkeypatch):
    net = instantiate(tiny_student, _convert_="all").eval()
    clock = itertools.count()  # a second passes at each look: every case runs once
    monkeypatch.setattr(infer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    cases = {case.name: case for case in infer._surroundings(net, IGPGCN, gmacs=1.0)}
    crops, decoded = [], []
    net.register_forward_pre_hook(lambda _, inputs: crops.append(len(inputs[0])))
    decode = type(net.codec).decode

    def counted(codec, scores):
        decoded.append(1)
        return decode(codec, scores)

    monkeypatch.setattr(type(net.codec), "decode", counted)
    work = {
        "student, flip test": (16, True),  # both views of eight persons
        "decoding": (0, True),
        "preparation and decoding": (0, True),
        "refiner": (0, False),
        "copying the scores": (0, False),
    }
    for name, (passed, decodes) in work.items():
        crops.clear()
        decoded.clear()
        assert cases[name].run() == 8
        assert (sum(crops), bool(decoded)) == (passed, decodes), name


@pytest.mark.slow
def test_other_runtimes_are_fed_what_the_student_is(tiny_student):
    net = instantiate(tiny_student, _convert_="all").eval()
    fed = []
    one, eight = infer._files({"onnxruntime int8": fed.append}, net)
    assert (one.name, eight.name) == tuple(
        f"student in onnxruntime int8, batch {n}" for n in (1, 8)
    )
    assert (one.reference, eight.reference) == ("student, batch 1", "student, batch 8")
    assert one.limit == eight.limit == LIMIT
    assert eight.run() == 8 * len(fed)
    assert {(crops.shape, crops.dtype.name) for crops in fed} == {((8, 3, 64, 48), "uint8")}
    np.testing.assert_array_equal(fed[0], infer.crops(net, 8).numpy())


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("backbones=[hrnet_w33]", "what.cases.backbones must be of ['efficientnet_lite0',"),
        ("runtimes=[tensorrt]", "what.cases.runtimes must be of ['onnxruntime', 'openvino'], got"),
    ],
)
def test_names_that_are_not_known(command, capsys, wrong, line):
    with pytest.raises(SystemExit):
        command(f"what.cases.{wrong}")
    assert line in capsys.readouterr().err
