"""``+experiment=lspet_ablation_cpu``: a row at toy scale, and the figures that are published."""

import csv
import json
import re
from pathlib import Path

import pytest

from benchmarks.gpu.toy import draw

REPOSITORY = Path(__file__).parents[3]
RESULTS = REPOSITORY / "results" / "lspet"


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


def percent(row, name, sign=""):
    return f"{100 * float(row[name]):{sign}.1f}"


def published():
    """AP, gain and relative training time of each row as a page writes them."""
    lines = {}
    with (RESULTS / "report.csv").open() as file:
        for row in csv.DictReader(file):
            ap = percent(row, "AP")
            ap += f" ± {percent(row, 'AP_deviation')}" if row["AP_deviation"] else ""
            gain = ""
            if row["gain"]:
                low, high = (percent(row, f"gain_{end}", "+") for end in ("low", "high"))
                gain = f"{percent(row, 'gain', '+')} [{low}, {high}]"
            lines[ap, gain] = f"{float(row['relative_training']):.1f}x"
    return lines


@pytest.mark.parametrize("page", ["README.md", "results/lspet/README.md"])
def test_the_tables_of_the_pages_are_those_of_the_report(page):
    text = (REPOSITORY / page).read_text()
    text = text[text.index("LSP-extended") :]
    known, seen = published(), 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        place = next(
            (k for k, c in enumerate(cells) if re.fullmatch(r"\d\d\.\d( ± \d\.\d)?", c)), 0
        )
        if place:
            ap, gain, training = cells[place : place + 3]
            assert (ap, gain) in known, line
            assert training in ("", known[ap, gain]), line
            seen += 1
    assert seen >= 7
