"""Commands end to end on a tiny synthetic data set; each in a process of its own at least once."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kdpose.checkpoints.load import load_net

TINY = (
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)
UNCHECKED = "teacher.force=true"  # after so few steps no teacher is better than chance


def kdpose(command, *overrides):
    """Run an entry point as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", f"kdpose.{command}", *map(str, overrides)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def full(crowd, tmp_path_factory):
    """Teacher, baseline, student and refiner, by the one command; their runs' folder."""
    runs = tmp_path_factory.mktemp("runs")
    where = (f"dataset.root={crowd}", f"runs={runs}")
    done = kdpose(
        "train", "+experiment=synthetic_full", "pipeline.baseline=true", *where, *TINY, UNCHECKED
    )
    return runs, where, done


@pytest.mark.slow
def test_full_makes_every_stage_and_one_table(full):
    runs, _, done = full
    rows = (runs / "synthetic_full" / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["teacher", "baseline", "stage1", "stage2"]
    for column in (
        "AP",
        "AP50",
        "AP75",
        "AR",
        "AP_easy",
        "AP_medium",
        "AP_hard",
        "params",
        "gmacs",
    ):
        assert column in rows[0].split(",")
    assert (runs / "synthetic_full" / "table.md").read_text().count("\n| ") >= 5
    assert (runs / "synthetic_full" / "poses.jpg").stat().st_size > 1000
    assert "stage 1 of 4: teacher" in done.stdout
    assert "stage 4 of 4: stage2" in done.stdout
    for stage in ("teacher", "baseline", "stage1", "stage2"):
        folder = runs / f"synthetic_{stage}"
        for name in (
            "config.yaml",
            "train.log",
            "csv/version_0/metrics.csv",
            "best.ckpt",
            "last.ckpt",
        ):
            assert (folder / name).is_file(), (stage, name)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert 0 <= metrics["AP"] <= 1
        assert metrics["box_source"] == "gt"
        assert metrics["flip"] is True
        assert len(metrics["sigmas"]) == 14
        assert metrics["split"] == "crowdpose_test"
        assert list((folder / "poses").glob("epoch_*.jpg"))


@pytest.mark.slow
def test_each_epoch_is_one_line_where_no_bar_can_be_shown(full):
    runs, _, done = full
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    log = (runs / "synthetic_stage1" / "train.log").read_text()
    logged = [line.partition(": ")[2] for line in log.splitlines() if ": epoch " in line]
    assert len(lines) == 8
    assert len(logged) == 2
    assert set(logged) < set(lines)
    assert re.fullmatch(r"epoch 1/2: loss [\d.e+-]+(, AP \d+\.\d)?, 0:\d\d:\d\d left", logged[0])
    assert re.fullmatch(r"epoch 2/2: loss [\d.e+-]+, AP \d+\.\d, 0:00:00 left", logged[1])


@pytest.mark.slow
def test_full_again_trains_nothing_anew(full, kdpose_here):
    runs, where, _ = full
    before = {p: p.stat().st_mtime_ns for p in runs.glob("*/best.ckpt")}
    done = kdpose_here(
        "train", "+experiment=synthetic_full", "pipeline.baseline=true", *where, *TINY, UNCHECKED
    )
    assert {p: p.stat().st_mtime_ns for p in runs.glob("*/best.ckpt")} == before
    assert done.stdout.count("finished already") == 4


@pytest.mark.slow
def test_checkpoints_carry_what_inference_needs_and_no_more(full):
    runs, _, _ = full
    student = torch.load(runs / "synthetic_stage1/best.ckpt", weights_only=True)["state_dict"]
    refined = torch.load(runs / "synthetic_stage2/best.ckpt", weights_only=True)["state_dict"]
    resumable = torch.load(runs / "synthetic_stage1/last.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in student} == {"net"}
    assert {".".join(name.split(".")[:2]) for name in student} == {"net.backbone", "net.head"}
    assert {".".join(n.split(".")[:2]) for n in refined} == {"net.student", "net.refiner"}
    assert set(resumable) - set(student) == {"align.weight", "align.bias"}
    for name, value in student.items():  # stage 2 left the student as it was
        assert torch.equal(value, refined[name.replace("net.", "net.student.", 1)])


@pytest.mark.slow
def test_checkpoints_name_the_files_of_both_splits(full, crowd):
    runs, _, _ = full
    for stage in ("stage1", "stage2"):
        said = load_net(runs / f"synthetic_{stage}" / "best.ckpt").description["dataset"]
        assert Path(said["annotations"]) == crowd / "annotations" / "crowdpose_test.json"
        train = said["train"]
        assert Path(train["annotations"]) == crowd / "annotations" / "crowdpose_trainval.json"
        assert Path(train["images"]) == crowd / "images"


@pytest.mark.slow
def test_metrics_come_from_evaluate(full, tmp_path):
    runs, _, _ = full
    ckpt = runs / "synthetic_stage2" / "best.ckpt"
    kdpose("evaluate", f"ckpt={ckpt}", f"out={tmp_path}/m.json", "num_workers=0", "batch_size=8")
    ours = json.loads((tmp_path / "m.json").read_text())
    stored = json.loads((runs / "synthetic_stage2" / "metrics.json").read_text())
    training = stored.pop("training")
    same = stored.keys() - {"ckpt", "date"}
    assert {k: ours[k] for k in same} == {k: stored[k] for k in same}
    assert training["seed"] == 0
    assert training["command"].startswith("kdpose train +experiment=synthetic_full")
    assert training["epochs"] == 2
    assert 0 < training["seconds"] < 600
    assert training["device"] == "cpu"


@pytest.mark.slow
def test_evaluate_takes_files_boxes_and_flip(full, crowd, tmp_path, kdpose_here):
    runs, _, _ = full
    annotations = crowd / "annotations" / "crowdpose_test.json"
    people = json.loads(annotations.read_text())["annotations"]
    boxes = [
        {"image_id": p["image_id"], "category_id": 1, "bbox": p["bbox"], "score": 0.9}
        for p in people
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    kdpose_here(
        "evaluate",
        f"ckpt={runs}/synthetic_stage1/best.ckpt",
        f"annotations={annotations}",
        f"images={crowd}/images",
        "protocol=coco",
        f"boxes={tmp_path}/boxes.json",
        "flip=false",
        "num_workers=0",
        f"out={tmp_path}/m.json",
    )
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert {"AP", "AP50", "AP75", "AR", "APM", "APL"} <= metrics.keys()
    assert metrics["box_source"].endswith("boxes.json")
    assert metrics["flip"] is False
    assert metrics["boxes"] == len(boxes)


@pytest.mark.slow
def test_predict_writes_results_and_pictures(full, crowd, tmp_path):
    runs, _, _ = full
    ckpt = runs / "synthetic_stage2" / "best.ckpt"
    words = (f"source={crowd}/images", "boxes=whole", f"out={tmp_path}/whole")
    kdpose("predict", f"ckpt={ckpt}", *words)
    found = json.loads((tmp_path / "whole" / "predictions.json").read_text())
    images = sorted((crowd / "images").iterdir())
    assert [f["image_id"] for f in found] == [int(p.stem) for p in images]
    assert len(list((tmp_path / "whole").glob("*.jpg"))) == len(images)
    for result in found:
        assert {"image_id", "category_id", "keypoints", "score", "bbox"} <= result.keys()
        assert len(result["keypoints"]) == 42


def _weights(run):
    return torch.load(run / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_interrupted_training_resumes_to_the_same_result(full, tmp_path, kdpose_here):
    """Stopped in the second of three epochs and continued: as if it had never stopped."""
    _, where, _ = full
    options = (*where[:1], *TINY, "trainer.max_epochs=3", f"runs={tmp_path}")
    teacher = f"teacher.ckpt={full[0]}/synthetic_teacher/best.ckpt"
    stage = ("train", "+experiment=stage1", "+scale=synthetic", teacher, UNCHECKED, *options)
    kdpose_here(*stage, "name=whole")
    stopped = tmp_path / "parts"
    process = subprocess.Popen(
        [sys.executable, "-m", *("kdpose." + stage[0], *stage[1:], "name=parts")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (stopped / "last.ckpt").is_file() and process.poll() is None:
        time.sleep(0.02)  # end it as soon as there is something to resume from
    process.kill()
    process.wait()
    again = kdpose_here(*stage, "name=parts", "resume=auto")
    assert "continued from last.ckpt" in again.stdout
    whole, parts = _weights(tmp_path / "whole"), _weights(stopped)
    assert parts["epoch"] == whole["epoch"] == 2
    assert parts["global_step"] == whole["global_step"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][name]), name
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("whole", "parts")]
    assert metrics[0]["AP"] == metrics[1]["AP"]


@pytest.mark.slow
def test_another_run_of_the_same_name_keeps_the_first_aside(crowd, tmp_path, kdpose_here):
    options = ("+experiment=baseline", "+scale=synthetic", f"dataset.root={crowd}", *TINY)
    options += (f"runs={tmp_path}", "trainer.max_epochs=1")
    kdpose_here("train", *options)
    first = (tmp_path / "synthetic_baseline" / "best.ckpt").read_bytes()
    kdpose_here("train", *options, "seed=1")
    assert (tmp_path / "synthetic_baseline.1" / "best.ckpt").read_bytes() == first
    assert (tmp_path / "synthetic_baseline" / "best.ckpt").read_bytes() != first
    changed = kdpose_here("train", *options, "seed=2", "resume=auto", check=False)
    assert changed.returncode == 1
    assert "seed 1 -> 2" in changed.stderr


@pytest.mark.slow
def test_a_sweep_outlives_a_failed_job(crowd, tmp_path, kdpose_here):
    tiny = [o for o in TINY if not o.startswith("data.batch_size")]
    options = (f"dataset.root={crowd}", f"runs={tmp_path}", *tiny, "trainer.max_epochs=1")
    sweep = ("-m", "+experiment=baseline", "+scale=synthetic", "data.batch_size=0,8", *options)
    done = kdpose_here("train", *sweep, check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: data.batch_size=0 is refused") == 2  # at once, and at the end
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("metrics.json")]
    assert [str(p) for p in found] == ["synthetic_baseline/data.batch_size-8/metrics.json"]


@pytest.mark.slow
def test_a_given_teacher_is_not_trained(full, tmp_path, kdpose_here):
    runs, where, _ = full
    given = runs / "synthetic_teacher" / "best.ckpt"
    kdpose_here(
        "train",
        "+experiment=synthetic_full",
        where[0],
        f"runs={tmp_path}",
        f"teacher.ckpt={given}",
        *TINY,
        UNCHECKED,
        "trainer.max_epochs=1",
    )
    assert not (tmp_path / "synthetic_teacher").exists()
    table = (tmp_path / "synthetic_full" / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["teacher", "stage1", "stage2"]
    assert str(given) in table[1]
    assert len(load_net(tmp_path / "synthetic_stage1" / "best.ckpt").net.skeleton) == 14


def test_help_has_examples(kdpose_here):
    done = kdpose_here("train", "--help")
    assert "+experiment=crowdpose_stage2" in done.stdout
    assert Path(__file__).parent.parent.joinpath("conf", "train.yaml").is_file()
