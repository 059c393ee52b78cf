import json
import sys

import pytest
import torch

from benchmarks.profile import profile
from kdpose import benchmark
from kdpose.evaluation.timing import Case

COMMON = ["head.init=projection", "codec.input_size=[32,32]", "repeats=1"]
TINY = [
    "what=step",
    "backbone=resnet10_narrow",
    "backbone.model_args.channels=[8,8,8,8]",
    "backbone@what.cases.teacher.backbone=mobilenetv4_tiny",
    "what.cases.refiner.widths=[8,8,8]",
    "+what.cases.compile.disable=true",  # tests/training/test_fast_step.py compiles
    "what.cases.steps=1",
    "data.batch_size=2",
]


@pytest.mark.slow
def test_the_command(monkeypatch, tmp_path):
    out = tmp_path / "step.json"
    words = ["kdpose", *TINY, *COMMON, f"out={out}"]
    monkeypatch.setattr(sys, "argv", words)
    torch._dynamo.reset()
    benchmark.main()
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    for stage in ("stage 1", "stage 2"):
        plain, limit = rows[f"{stage}: plain"], rows[f"{stage}: product in float32"]
        assert plain["facts"]["GFLOP"] > 0
        for way in ("plain", "folded teacher", "fused optimizer", "compiled"):
            row = rows[f"{stage}: {way}"]
            assert row["share"] == pytest.approx(row["median"] / limit["median"])
            assert 0 < row["share"] < 1
            assert row["ms"] == pytest.approx(1000 / row["median"])
    page = (tmp_path / "step.md").read_text()
    assert "| stage 1: compiled | " in page
    assert "kdpose benchmark what=step" in page


def test_a_profile_is_by_unit(tmp_path, monkeypatch):
    def per_call(event, device):
        return 1000 * event.count  # a millisecond each

    monkeypatch.setattr("benchmarks.profile._own_time", per_call)
    matrix = torch.randn(400, 400)

    def products(count):
        def run():
            for _ in range(count):
                matrix @ matrix
            return count

        return run

    cases = [
        Case("few", products(3), limit="top"),
        Case("many", products(30), "few"),
        Case("top", products(1)),
        Case("alone", products(1)),
    ]
    for case in cases:
        case.run()
    profile(cases, tmp_path / "new", "products")
    lines = (tmp_path / "new" / "products_profile.md").read_text().splitlines()
    assert lines[0] == "| ms per unit, own time | few | many |"
    assert sum(line.startswith("| `") for line in lines) <= 15
    assert "| ms per unit, own time | alone |" in lines  # a table for each reference
    assert (tmp_path / "new" / "products_profile.png").stat().st_size > 1000
    few, many = (float(v) for v in next(n for n in lines if "aten::mm" in n).split("|")[2:4])
    assert few == many == 1  # per product, however many a case makes
