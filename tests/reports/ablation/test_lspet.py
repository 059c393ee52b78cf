"""``+experiment=lspet_ablation_cpu``: a row at toy scale."""

import csv
import json

import pytest

from benchmarks.gpu.toy import draw


@pytest.mark.slow
def test_a_row_is_trained_and_reported_by_the_published_commands(tmp_path, kdpose_here):
    draw(tmp_path / "data")
    runs = tmp_path / "runs"
    toy = [
        f"data_dir={tmp_path}/data", f"runs={runs}", "data.num_workers=0",
        "pipeline.student_overrides=['start=null','trainer.max_epochs=1']",
    ]  # fmt: skip
    kdpose_here("train", "+experiment=lspet_ablation_cpu", "scheme=0", "seed=0", *toy)
    folder = runs / "lspet_ablation_cpu"
    metrics = json.loads((folder / "baseline_s0" / "metrics.json").read_text())
    assert metrics["training"]["chosen"]["held_out"]
    assert metrics["input_size"] == [96, 128]
    kdpose_here("report", f"runs={folder}", f"out={tmp_path}/report", "resamples=20")
    (row,) = csv.DictReader((tmp_path / "report" / "report.csv").open())
    assert row["row"] == "baseline"
    assert float(row["AP"]) == metrics["AP"]
