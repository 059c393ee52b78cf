"""The whole report on run folders whose poses are of known quality."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from kdpose.cli import CONF
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.matches import draw_images
from kdpose.reports.ablation.collect import collect_runs
from kdpose.reports.ablation.measure import measure, read_split
from kdpose.reports.ablation.report import write_report
from kdpose.reports.ablation.tables import main_table
from kdpose.skeletons.known import CROWDPOSE

GRADIENTS = "epoch,step,train/grad_kl,train/grad_pos\n0,5,3.0,1.0\n1,9,1.0,3.0\n"


@pytest.fixture
def runs(make_run, tmp_path):
    make_run("teacher", noise=1.5)
    for seed in (0, 1):
        make_run(f"baseline_s{seed}", seed, noise=4.0 + seed)
        make_run(f"stage1_s{seed}", seed, noise=2.5 + seed, gradients=GRADIENTS)
    return tmp_path / "runs"


def reported(runs, *overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("report", overrides=[f"runs={runs}", "resamples=50", *overrides])
    return write_report(cfg)


def ap_of(run, results, **options):
    path = run.metrics["annotations"]
    options = {"protocol": "crowdpose", "sigmas": CROWDPOSE.sigmas} | options
    return keypoint_ap(path, results, **options)["AP"]


def test_rows_against_a_slow_reference(runs):
    rows = {row.label: row for row in reported(runs)}
    assert list(rows) == ["teacher", "baseline", "stage1"]
    aps = {run.name: run.metrics["AP"] for run in collect_runs([runs])}
    ours, theirs = ([aps[f"{n}_s{s}"] for s in (0, 1)] for n in ("stage1", "baseline"))
    row = rows["stage1"]
    assert row.means["AP"] == pytest.approx(np.mean(ours))
    assert row.deviation == pytest.approx(abs(ours[0] - ours[1]) / 2**0.5)
    assert row.difference.mean == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert row.difference.seeds == 2
    assert rows["teacher"].difference.seeds == 1
    assert rows["teacher"].difference.mean == pytest.approx(aps["teacher"] - aps["baseline_s0"])
    assert rows["baseline"].difference is None
    assert row.shares == {"kl": {0: 0.75, 1: 0.25}, "pos": {0: 0.25, 1: 0.75}}
    assert row.paper["scheme"] == 4


def test_a_row_is_compared_with_its_control_as_well(runs):
    rows = {row.label: row for row in reported(runs, "controls.stage1=[teacher]")}
    aps = {run.name: run.metrics["AP"] for run in collect_runs([runs])}
    (beside,) = rows["stage1"].beside
    assert (beside.over, beside.seeds) == ("teacher", 1)
    assert beside.mean == pytest.approx(aps["stage1_s0"] - aps["teacher"])
    assert not rows["baseline"].beside
    table = (runs / "report/report.md").read_text()
    assert "## Controls of equal cost" in table
    assert f"| stage1 | teacher | 1 | {100 * beside.mean:+.1f} [" in table


def resampled(path, data, results, drawn):
    """Write the split of the images ``drawn``, and give the results on them."""

    def of(entries):
        return [
            entry | {"image_id": n}
            for n, image in enumerate(drawn)
            for entry in entries
            if entry["image_id"] == image
        ]

    split = {"images": [{"id": n} for n in range(len(drawn))], "annotations": of(data)}
    path.write_text(json.dumps(split))
    return of(results)


def test_the_interval_is_that_of_the_evaluator_on_splits_written_out(runs, tmp_path):
    difference = reported(runs)[2].difference
    by_name = {run.name: run for run in collect_runs([runs])}
    data = json.loads(Path(by_name["teacher"].metrics["annotations"]).read_text())
    order = sorted(image["id"] for image in data["images"])
    path, gains = tmp_path / "resampled.json", []
    seeds = np.random.default_rng(0).integers(2, size=(2, 50))  # drawn anew for each split
    for number, counts in enumerate(draw_images(len(order), 50, seed=0)):
        drawn = np.repeat(order, counts).tolist()
        values = {}
        for name in by_name.keys() - {"teacher"}:
            found = resampled(path, data["annotations"], by_name[name].results, drawn)
            scored = keypoint_ap(path, found, protocol="coco", sigmas=CROWDPOSE.sigmas)
            values[name] = scored["AP"]
        by_seed = [values[f"stage1_s{s}"] - values[f"baseline_s{s}"] for s in (0, 1)]
        gains.append(np.mean([by_seed[s] for s in seeds[:, number]]))
    expected = np.percentile(gains, [2.5, 97.5])
    assert difference.low < difference.mean < difference.high
    assert (difference.low, difference.high) == pytest.approx(expected, abs=1e-6)


def test_breakdowns_against_files_with_the_other_labels_taken_out(runs, tmp_path):
    run = next(run for run in collect_runs([runs]) if run.name == "baseline_s0")
    measured = measure(run, read_split(run, CROWDPOSE))
    data = json.loads(Path(run.metrics["annotations"]).read_text())

    def masked(keep):
        """AP on a file in which only the labels ``keep`` tells are left."""
        people = []
        for person in data["annotations"]:
            points = np.reshape(person["keypoints"], (-1, 3)).astype(float)
            points[~np.array([keep(k, v) for k, v in enumerate(points[:, 2])]), 2] = 0
            some = int((points[:, 2] > 0).sum()) if person["num_keypoints"] else 0
            people.append(person | {"keypoints": points.ravel().tolist(), "num_keypoints": some})
        path = tmp_path / "masked.json"
        path.write_text(json.dumps(data | {"annotations": people}))
        return keypoint_ap(path, run.results, protocol="crowdpose", sigmas=CROWDPOSE.sigmas)["AP"]

    for joint in (0, 9, 12):
        name = CROWDPOSE.joints[joint]
        assert measured.joints[name] == pytest.approx(
            masked(lambda k, v, j=joint: k == j and v > 0)
        )
    assert measured.occlusion["visible"] == pytest.approx(masked(lambda k, v: v == 2))
    assert measured.occlusion["hidden"] == pytest.approx(masked(lambda k, v: v == 1))
    for name, value in measured.crowding.items():
        stated = run.metrics[f"AP_{name}"]
        assert value == (stated if stated is None else pytest.approx(stated, abs=1e-4))


@pytest.mark.slow
def test_files(runs):
    reported(runs, "compare=[baseline_s0,stage1_s0]", "gains=2", "random=1")
    out = runs / "report"
    text = (out / "report.md").read_text()
    for part in (
        "AP by joint",
        "AP by occlusion",
        "AP by crowding",
        "Share of the gradient",
        "Lineage",
    ):
        assert f"## {part}" in text
    assert "| stage1 | 4 | 2 |" in text
    assert "|  | +1.5 |" in text  # the paper's AP is of a detector's boxes, these runs' is not
    assert "0123456789 |" in text
    assert "drawn at random (seed 0)" in text
    assert "so they flatter it" in text
    lines = list(csv.DictReader((out / "report.csv").open()))
    assert [line["row"] for line in lines] == ["teacher", "baseline", "stage1"]
    assert lines[2]["paper_AP_percent"] == ""
    assert float(lines[2]["gain_low"]) <= float(lines[2]["gain"]) <= float(lines[2]["gain_high"])
    assert float(lines[0]["PCK"]) > float(lines[1]["PCK"]) > 0
    for name in ("report.png", "comparison.png"):
        pixels = torch.from_numpy(np.array(Image.open(out / name).convert("RGB")))
        assert min(pixels.shape[:2]) > 300
        assert len(pixels.reshape(-1, 3).unique(dim=0)) > 50  # not an empty sheet


def test_the_papers_ap_stands_only_beside_rows_of_detected_boxes(runs):
    row = reported(runs)[2]
    assert row.paper["AP"] == 68.2
    assert row.paper_levels == {}
    detected = [
        replace(run, metrics={**run.metrics, "box_source": "/boxes.json"}) for run in row.runs
    ]
    assert replace(row, runs=detected).paper_levels["AP"] == 68.2
    assert replace(row, runs=[detected[0], row.runs[1]]).paper_levels == {}
    table = main_table([replace(row, runs=detected)], 0.95)
    assert table[1][table[0].index("paper AP")] == "68.2"


@pytest.mark.slow
def test_images_by_id_and_name(runs, crowd):
    data = json.loads((crowd / "annotations" / "crowdpose_test.json").read_text())
    first, second = data["images"][:2]
    chosen = f"images=[{first['id']},{second['file_name']}]"
    reported(runs, "compare=[baseline_s0,stage1_s0]", chosen)
    assert "chosen by hand" in (runs / "report" / "report.md").read_text()
    with pytest.raises(ValueError, match=r"images must be ids or file names of .*'nobody\.jpg'"):
        reported(runs, "compare=[baseline_s0,stage1_s0]", "images=[nobody.jpg]")


def test_errors_say_what_to_mend(runs):
    with pytest.raises(ValueError, match=r"baseline must be one of \['teacher', .*got none"):
        reported(runs, "baseline=none")
    with pytest.raises(ValueError, match=r"compare must be two of .*'stage1_s1'.*got \['x'\]"):
        reported(runs, "compare=[x]")
    worse = json.loads((runs / "baseline_s1" / "predictions.json").read_text())
    (runs / "stage1_s1" / "predictions.json").write_text(json.dumps(worse))
    with pytest.raises(
        ValueError, match=r"stage1_s1: predictions\.json gives AP .* are of different"
    ):
        reported(runs)
