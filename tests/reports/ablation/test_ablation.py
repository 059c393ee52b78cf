"""Table IV through the real command line: seven schemes, two seeds, tiny crowds."""

import csv
import json
import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kdpose.cli import CONF
from kdpose.data.synthetic.crowds import generate
from kdpose.reports.ablation.collect import collect_runs
from kdpose.reports.ablation.report import write_report

STAGES = ("baseline", "baseline_igp_label", "baseline_igp_teacher", "stage1", "stage1_fea")
STAGES += ("stage1_fea_l1", "stage2")
RUNS = sorted(["teacher", *(f"{stage}_s{seed}" for stage in STAGES for seed in (0, 1))])
TINY = (
    "backbone=mobilenetv4_tiny",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "teacher.force=true",  # after so few steps no teacher is better than chance
    "callbacks.pictures.persons=2",
)


def words(root, runs, schemes="0,1,2,3,4,5,6"):
    """The command's, as a user gives them."""
    jobs = ("-m", "+experiment=ablation", "pipeline=ablation_synthetic", f"scheme={schemes}")
    return [*jobs, "seed=0,1", f"dataset.root={root}", f"runs={runs}", *TINY]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The whole table, from nothing."""
    folder = tmp_path_factory.mktemp("ablation")
    generate(folder / "data", train=24, val=8, seed=3, workers=1, image_size=(160, 120))
    done = subprocess.run(
        [sys.executable, "-m", "kdpose.train", *words(folder / "data", folder / "runs")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "data", folder / "runs" / "synthetic_ablation", done


@pytest.mark.slow
def test_every_stage_is_trained_once(first):
    _, runs, done = first
    assert sorted(path.parent.name for path in runs.glob("*/best.ckpt")) == RUNS
    assert done.stdout.count(" epochs in ") == len(RUNS)
    wanted = 2 * (1 + 2 + 2 + 2 + 2 + 3 + 3)  # stages of the seven schemes, two seeds
    assert done.stdout.count("finished already") == wanted - len(RUNS)
    jobs = [line.split() for line in done.stdout.splitlines() if line.startswith("  scheme=")]
    expected = [[f"scheme={s}", f"seed={n}", "done,"] for s in range(7) for n in (0, 1)]
    assert [job[:3] for job in jobs] == expected


@pytest.mark.slow
def test_stages_differ_by_their_losses_and_sources(first):
    _, runs, _ = first

    def config(name):
        return OmegaConf.load(runs / name / "config.yaml")

    losses = {name: list(config(name).loss) for name in RUNS if name.endswith("_s1")}
    assert losses == {
        "baseline_s1": ["kl"],
        "stage1_fea_s1": ["kl", "fea"],
        "stage1_fea_l1_s1": ["kl", "fea", "pos"],
        "stage1_s1": ["kl", "fea", "pos", "cst"],
        "baseline_igp_label_s1": ["gcn_1", "gcn_2", "gcn_3"],
        "baseline_igp_teacher_s1": ["gcn_1", "gcn_2", "gcn_3"],
        "stage2_s1": ["gcn_1", "gcn_2", "gcn_3"],
    }
    assert {config(name).seed for name in RUNS if name.endswith("_s1")} == {1}
    assert config("teacher").seed == 0
    made_from = {run.name: run.made_from for run in collect_runs([runs])}
    assert made_from["baseline_s1"] == []
    assert made_from["baseline_igp_label_s1"] == ["baseline_s1"]
    assert made_from["baseline_igp_teacher_s1"] == ["teacher", "baseline_s1"]
    assert made_from["stage1_fea_s1"] == ["teacher"]
    assert made_from["stage2_s1"] == ["teacher", "stage1_s1"]
    taught_by = {run.name: run.taught_by for run in collect_runs([runs])}
    assert taught_by["stage2_s1"] == taught_by["stage1_s0"] == "teacher"
    assert taught_by["baseline_s0"] == taught_by["baseline_igp_label_s0"] is None
    target = config("baseline_igp_label_s1").loss.gcn_1.rename.target_pose
    assert target == "label_pose"
    assert config("baseline_igp_teacher_s1").loss.gcn_1.rename.target_pose == "teacher_pose"


@pytest.mark.slow
def test_again_trains_nothing_and_a_failed_job_loses_no_other(first, kdpose_here):
    root, runs, _ = first
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/*.ckpt")}
    assert len(before) == 2 * len(RUNS)
    schemes = "9,1,2,3,5,6"  # these have every stage; there is no scheme 9
    again = words(root, runs.parent, schemes)
    done = kdpose_here("train", *again, check=False)
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/*.ckpt")} == before
    assert done.stdout.count("finished already") == 2 * (2 + 2 + 2 + 3 + 3)
    assert " epochs in " not in done.stdout
    assert done.returncode == 1
    message = "error: scheme must be one of [0, 1, 2, 3, 4, 5, 6, 'searched'], got 9"
    assert done.stderr.count(message) == 3  # at once, for either seed, and at the end
    ended = [line.split() for line in done.stdout.splitlines() if line.startswith("  scheme=")]
    assert [job[2] for job in ended] == ["failed"] * 2 + ["done,"] * 10


@pytest.mark.slow
def test_report_has_the_table(first):
    _, runs, _ = first
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(
            "report",
            overrides=[f"runs={runs}", "resamples=200", "compare=[baseline_s0,stage2_s0]"],
        )
    rows = write_report(cfg)
    assert [row.paper.get("scheme") for row in rows] == [None, 0, 1, 2, 3, 4, 5, 6]
    assert [len(row.runs) for row in rows] == [1] + 7 * [2]
    lines = list(csv.DictReader((runs / "report" / "report.csv").open()))
    for line in lines[1:]:
        aps = [
            json.loads((runs / f"{line['row']}_s{seed}" / "metrics.json").read_text())["AP"]
            for seed in (0, 1)
        ]
        assert float(line["AP"]) == pytest.approx(sum(aps) / 2)
    job = "+experiment=ablation pipeline=ablation_synthetic"
    command = f"kdpose train -m {job} scheme=6 seed=0,1"
    assert lines[-1]["command"] == command
    assert lines[0]["command"] == command.replace("scheme=6 seed=0,1", "scheme=2 seed=0")
    assert f"| `{command}` |" in (runs / "report" / "report.md").read_text()
    shares = {row.label: set(row.shares) for row in rows if row.shares}
    assert shares == {
        "stage1_fea": {"kl", "fea"},
        "stage1_fea_l1": {"kl", "fea", "pos"},
        "stage1": {"kl", "fea", "pos", "cst"},
    }
    for row in rows:
        for epoch in {epoch for term in row.shares.values() for epoch in term}:
            assert sum(term[epoch] for term in row.shares.values()) == pytest.approx(1)
    for name in ("report.md", "report.png", "comparison.png"):
        assert (runs / "report" / name).stat().st_size > 1000
