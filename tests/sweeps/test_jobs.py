"""What the jobs of a sweep leave to read; sweeps themselves are driven in test_train.py."""

import csv
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

import kdpose.train
from kdpose.sweeps.jobs import recorded
from kdpose.training.checkpoint_files import resumable


@pytest.fixture
def sweep(tmp_path, capsys):
    """Three jobs: one done, one failed, one whose process was killed."""
    shared = ["+experiment=x", "trainer.max_epochs=1"]
    with recorded(tmp_path, "seed-0", [*shared, "seed=0"], tmp_path / "a.log") as record:
        record["AP"] = 0.25
    with (
        pytest.raises(ValueError, match="of no use"),
        recorded(tmp_path, "seed-1", [*shared, "seed=1"], tmp_path / "b.log"),
    ):
        raise ValueError("of no use")
    killed = recorded(tmp_path, "seed-2", [*shared, "seed=2"], tmp_path / "c.log")
    killed.__enter__()
    with recorded(tmp_path, "seed-0", [*shared, "seed=0"], tmp_path / "a.log") as record:
        record["AP"] = 0.5  # run again: still one row
    yield tmp_path, capsys.readouterr()
    killed.gen.close()


def test_the_table_has_every_job_and_what_tells_them_apart(sweep):
    folder, _ = sweep
    rows = list(csv.DictReader((folder / "jobs.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert [row["state"] for row in rows] == ["done", "failed", "running"]
    assert [row["AP"] for row in rows] == ["0.5", "", ""]
    assert rows[1]["error"] == "ValueError: of no use"
    assert not {"experiment", "trainer.max_epochs"} & rows[0].keys()
    lines = (folder / "jobs.md").read_text().splitlines()
    assert lines[0].startswith("| seed | state | AP |")
    assert lines[2].startswith("| 0 | done | 50.0 |")
    assert len(lines) == 5
    assert (folder / "jobs.png").stat().st_size > 5000


def test_a_failed_job_is_told_at_once_with_its_log(sweep):
    folder, said = sweep
    (line,) = said.err.splitlines()
    assert line == f"job seed-1 failed: {folder}/jobs/seed-1.json, log {folder}/b.log"
    record = json.loads((folder / "jobs" / "seed-1.json").read_text())
    assert 'raise ValueError("of no use")' in record["traceback"]
    assert record["traceback"] in (folder / "b.log").read_text()


def test_a_job_begun_again_adds_to_its_seconds(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr("kdpose.sweeps.jobs.time.monotonic", lambda: next(clock))
    for wanted in (5.0, 7.0):
        with recorded(tmp_path, "seed-0", ["seed=0"], tmp_path / "a.log"):
            pass
        assert json.loads((tmp_path / "jobs" / "seed-0.json").read_text())["seconds"] == wanted


def test_several_devices_in_a_sweep_are_refused_and_named(monkeypatch, capsys, tmp_path):
    words = ["-m", "+experiment=baseline", "+scale=synthetic", "trainer.devices=2", "seed=3,4"]
    monkeypatch.setattr(sys, "argv", ["kdpose.train", *words, f"runs={tmp_path}"])
    with pytest.raises(SystemExit):
        kdpose.train.main()
    said = capsys.readouterr()
    assert said.err.count("hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=") == 3
    rows = list(csv.DictReader((tmp_path / "synthetic_baseline" / "jobs.csv").open()))
    assert [(row["seed"], row["state"]) for row in rows] == [("3", "failed"), ("4", "failed")]
    assert f"jobs: 2 failed; table and figure in {tmp_path}/synthetic_baseline" in said.out


@pytest.mark.slow
def test_jobs_in_other_processes_have_their_names(tmp_path):
    """Sent by submitit to processes of its own; each is refused, which takes no training."""
    words = ["-m", "+experiment=baseline", "+scale=synthetic", "trainer.devices=2", "seed=3,4"]
    launcher = "hydra/launcher=submitit_local"
    done = subprocess.run(
        [sys.executable, "-m", "kdpose.train", *words, launcher, f"runs={tmp_path}"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 1
    assert "error: a sweep's job has one device, got 2 (trainer.devices)" in done.stderr
    rows = list(csv.DictReader((tmp_path / "synthetic_baseline" / "jobs.csv").open()))
    assert [(row["seed"], row["state"]) for row in rows] == [("3", "failed"), ("4", "failed")]


@pytest.mark.slow
def test_parallel_jobs_stop_with_their_sweep_and_go_on(crowd, tmp_path):
    words = [
        "-m", "+experiment=baseline", "+scale=synthetic", "backbone=mobilenetv4_tiny",
        "codec.input_size=[48,64]", "data.batch_size=4", "data.num_workers=0", "trainer=cpu",
        "dataset.prepare=null", f"dataset.root={crowd}", f"runs={tmp_path}", "name=sweep",
        "~callbacks.pictures", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    ]  # fmt: skip
    command = [sys.executable, "-m", "kdpose", "train", *words]
    env, sweep = {**os.environ, "OMP_NUM_THREADS": "1"}, tmp_path / "sweep"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*command, "trainer.max_epochs=900"], env=env, stdout=said, stderr=said
        )
    until = time.monotonic() + 240
    while len(list(sweep.glob("*/last.ckpt"))) < 2:
        assert process.poll() is None, (tmp_path / "said").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(timeout=60) == 143, (tmp_path / "said").read_text()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    assert "stopped by SIGTERM; to go on: kdpose train -m" in (tmp_path / "said").read_text()
    records = [json.loads(path.read_text()) for path in sorted((sweep / "jobs").glob("*.json"))]
    assert [(r["job"], r["state"]) for r in records] == [
        ("seed-0", "stopped"),
        ("seed-1", "stopped"),
    ]
    for name in ("seed-0", "seed-1"):
        assert resumable(sweep / name) == sweep / name / "last.ckpt"
