"""Times of inference and training beside AP: by hand, and through benchmark and report."""

import csv
import json
import sys

import pytest
from hydra import compose, initialize_config_dir

from kdpose import benchmark
from kdpose.cli import CONF
from kdpose.reports.ablation.collect import by_row, collect_runs
from kdpose.reports.ablation.costs import Cost, Times
from kdpose.reports.ablation.report import write_report

MS = {"teacher": (20.0, 30.0), "baseline": (10.0, 40.0), "stage1": (10.0, 60.0)}
MS |= {"stage2": (15.0, 20.0)}


@pytest.fixture
def costs(tmp_path):
    """A file of ``what=methods`` with milliseconds that the test can add up."""
    rows = [
        {"name": f"{part} of {label}", "ms": ms}
        for label, both in MS.items()
        for part, ms in zip(("inference", "training"), both, strict=True)
    ]
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"what": "methods", "rows": rows}))
    return path


@pytest.fixture
def runs(make_run, tmp_path):
    """Two seeds, all of 3 epochs; stage 2 refines stage 1."""
    make_run("teacher", noise=1.5)
    for seed in (0, 1):
        make_run(f"baseline_s{seed}", seed, noise=4.0)
        make_run(f"stage1_s{seed}", seed, noise=2.5)
        refined = ("+experiment=stage2", f"stage1_ckpt=runs/stage1_s{seed}/best.ckpt")
        make_run(f"stage2_s{seed}", seed, 2.0, [*refined, "~teacher", "dataset=synthetic"])
    return tmp_path / "runs"


def reported(runs, *overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return write_report(
            compose("report", overrides=[f"runs={runs}", "resamples=20", *overrides])
        )


def test_costs_are_multiples_and_count_earlier_stages(runs, costs):
    report = {row.label: row for row in reported(runs, f"costs={costs}")}
    found = Times.read(costs).costs(list(report.values()), "baseline")
    assert found == {
        "teacher": Cost(2.0, 0.75),
        "baseline": Cost(1.0, 1.0),
        "stage1": Cost(1.0, 1.5),
        "stage2": Cost(1.5, 2.0),  # 60 + 20 over 40
    }
    lines = {line["row"]: line for line in csv.DictReader((runs / "report/report.csv").open())}
    assert float(lines["stage2"]["relative_inference"]) == 1.5
    assert float(lines["stage2"]["relative_training"]) == 2.0
    text = (runs / "report" / "report.md").read_text()
    assert "| stage2 |" in text
    assert " | 1.50x | 2.00x | 3 |" in text
    assert "(costs.png)" in text
    assert (runs / "report" / "costs.png").stat().st_size > 1000


def test_without_costs_nothing_is_said_of_them(runs):
    reported(runs)
    assert "inference" not in (runs / "report" / "report.md").read_text()
    assert "relative_inference" not in (runs / "report" / "report.csv").read_text()


def test_the_rows_of_the_field_stand_beside_what_is_quoted(runs):
    rows = reported(runs, "rows=field", "labels=[stage2,baseline]")
    assert [row.label for row in rows] == ["stage2", "baseline"]
    text = (runs / "report" / "report.md").read_text()
    assert "| 76.2 val, 75.1 test-dev (W32) |" in text
    assert "paper gain" not in text
    assert "nothing of it was measured here" in text
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("report", overrides=["rows=field", "runs=runs"])
        methods = compose("train", overrides=["+experiment=field_ablation"]).pipeline.schemes
    named = {row["method"] for row in cfg.paper.values() if "method" in row}
    stages = {str(label) for name in (*named, "paper", "simcc") for label in methods[name]}
    assert set(cfg.labels) >= stages


def test_errors_say_what_to_mend(runs, costs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*none\.json \(from costs\)"):
        reported(runs, f"costs={tmp_path}/none.json")
    with pytest.raises(ValueError, match=r"costs must have the times of teacher_x|baseline must"):
        reported(runs, f"costs={costs}", "baseline=teacher_x")
    with pytest.raises(ValueError, match=r"stage2 goes on with the network of stage1_s0, whose"):
        reported(runs, f"costs={costs}", "labels=[baseline,stage2]")
    with pytest.raises(ValueError, match=r"labels must be of \['baseline', .*got \['nobody'\]"):
        by_row(collect_runs([runs]), (), ["nobody"])
    for text in ('{"what": "step", "rows": []}', "[]"):
        costs.write_text(text)
        with pytest.raises(ValueError, match=r"\(from costs\) is not of benchmark what=methods"):
            reported(runs, f"costs={costs}")
    costs.write_text("row,AP")
    with pytest.raises(ValueError, match=r"costs\.json \(from costs\)"):
        reported(runs, f"costs={costs}")


def test_a_benchmark_of_nothing(kdpose_here):
    ended = kdpose_here("benchmark", "what=methods", check=False)
    assert ended.returncode == 1
    assert "error: what.cases.runs must be a folder of finished runs, or a list" in ended.stderr


@pytest.mark.slow
def test_the_benchmark_measures_what_the_report_reads(crowd, tmp_path, kdpose_here, monkeypatch):
    tiny = [
        "+scale=synthetic", f"dataset.root={crowd}", f"runs={tmp_path}", "trainer=cpu",
        "backbone=mobilenetv4_tiny", "head.init=projection", "codec.input_size=[48,64]",
        "data.batch_size=8", "data.num_workers=0", "trainer.max_epochs=1", "doctor=false",
    ]  # fmt: skip
    ckpt = tmp_path / "baseline" / "best.ckpt"
    kdpose_here("train", "+experiment=baseline", *tiny, "name=baseline")
    teach = ["+experiment=stage1", f"teacher.ckpt={ckpt}", "teacher.force=true", "name=stage1"]
    kdpose_here("train", *teach, *tiny)
    out = tmp_path / "costs.json"
    words = ["what=methods", f"what.cases.runs={tmp_path}", "what.cases.steps=2", "repeats=1"]
    monkeypatch.setattr(sys, "argv", ["kdpose", *words, f"out={out}"])
    benchmark.main()
    names = [row["name"] for row in json.loads(out.read_text())["rows"]]
    assert names == [
        f"{p} of {x}" for x in ("baseline", "stage1") for p in ("inference", "training")
    ]
    rows = reported(tmp_path, f"costs={out}")
    found = Times.read(out).costs(rows, "baseline")
    assert found["baseline"] == Cost(1.0, 1.0)
    assert found["stage1"].training > 1.0  # its step asks a teacher as well
