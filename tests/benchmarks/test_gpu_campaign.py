"""The campaign for a GPU, at toy size on the CPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.gpu import campaign, toy, travel
from benchmarks.gpu.busy import samples
from benchmarks.gpu.page import write_page
from benchmarks.gpu.part import STOPPED, Part, Places, environment, run_command
from benchmarks.gpu.report import Report
from benchmarks.gpu.runs import trainings
from kdpose.cli import CONF

REPOSITORY = Path(__file__).parents[2]
DEVICE = {"device": "a GPU", "commit": "abc"}
STEP = [
    {"name": "stage 1: compiled, bfloat16", "ratio": 2.61, "median": 3100.0},
    {"name": "stage 2: compiled, bfloat16", "ratio": 2.0, "median": 9610.0},
]


def configured(what):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("benchmark", [f"what={what}", "runs=runs"])
    return OmegaConf.to_container(cfg.what.campaign, resolve=True)


@pytest.fixture
def here(tmp_path):
    places = Places(tmp_path / "work", tmp_path / "results")
    places.results.mkdir()
    return places


def part_of(here, code, name="one", minutes=1, **fields):
    """A part that starts Python in place of kdpose."""
    values = {"title": name, "minutes": minutes, "commands": [f"say {code}"], **fields}
    return Part.read(name, values, here)


@pytest.fixture
def said(monkeypatch):
    """Has a command's words run by a function, and keeps them."""
    kept = []

    def run(words, variables, log, deadline):
        kept.append(words)
        return {"fail": 1, "stop": STOPPED}.get(words[1], 0)

    monkeypatch.setattr(campaign, "run_command", run)
    monkeypatch.setattr(campaign, "_prepare", lambda *_: None)
    return kept


def started(here, parts, **options):
    values = {
        name: {"title": name, "minutes": 2, "commands": [f"say {what}"]}
        for name, what in parts.items()
    }
    out = here.results / "report.json"
    given = {"folder": str(here.folder), "minutes": 10, **options}
    return campaign.run(str(out), None, "make", parts=values, **given)


def test_the_toy_campaign_has_the_parts_and_commands_of_the_real_one():
    real, small = configured("gpu")["parts"], configured("gpu_toy")["parts"]
    assert list(real) == list(small) == ["step", "feed", "bundled", "rows"]
    assert list(configured("gpu_pack")["needs"]) == list(real)
    for name, part in real.items():
        assert part["title"] == small[name]["title"]
        assert small[name]["more"]
        assert len(part["commands"]) == len(small[name]["commands"])


def test_a_part_that_is_done_is_skipped_until_its_words_change(here, said):
    started(here, {"a": "x", "b": "y"})
    assert [words[1] for words in said] == ["x", "y"]
    started(here, {"a": "x", "b": "y"})
    assert len(said) == 2
    started(here, {"a": "x", "b": "z"})
    assert [words[1] for words in said[2:]] == ["z"]


def test_a_part_alone(here, said):
    started(here, {"a": "x", "b": "y"}, part=["b"])
    assert [words[1] for words in said] == ["y"]
    assert "| a | a | not measured |" in (here.results / "README.md").read_text()
    with pytest.raises(ValueError, match="has no c: there are a, b"):
        started(here, {"a": "x", "b": "y"}, part="c")


def test_a_part_that_does_not_fit_is_left_out_and_a_stopped_one_goes_on(here, said, capsys):
    started(here, {"a": "stop", "b": "y"}, minutes=1.5)
    assert not said
    assert "left out: 2 min do not fit the 1.5 left" in capsys.readouterr().out
    started(here, {"a": "stop"})
    report = Report(here.results / "report.json", "make", DEVICE)
    assert report.parts["a"]["status"] == "stopped"
    started(here, {"a": "stop"})
    assert [words[1] for words in said] == ["stop", "stop"]


def test_a_part_that_fails_lets_the_others_run_and_is_tried_again(here, said):
    with pytest.raises(ValueError, match=r"a failed, see .*a\.log; the same command tries again"):
        started(here, {"a": "fail", "b": "y"})
    assert [words[1] for words in said] == ["fail", "y"]
    with pytest.raises(ValueError, match="a failed"):
        started(here, {"a": "fail", "b": "y"})
    assert [words[1] for words in said] == ["fail", "y", "fail"]


def test_without_a_gpu_it_says_which_command_needs_none(here):
    with pytest.raises(ValueError, match="what=gpu_toy tries its parts on a CPU"):
        started(here, {"a": "x"})
    started(here, {"a": "x"}, minutes=0)  # the page alone
    assert "not measured" in (here.results / "README.md").read_text()


def test_a_command_is_stopped_at_its_deadline(here, monkeypatch):
    part = part_of(here, "x")
    variables = environment(part, here)
    assert variables["TORCHINDUCTOR_CACHE_DIR"].startswith(str(here.folder))
    slow = here.results / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 100\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    log, begun = here.folder / "log", time.monotonic()
    assert run_command(["train", "x=1"], variables, log, begun + 0.2) == STOPPED
    assert time.monotonic() - begun < 20
    assert log.read_text() == "\n$ kdpose train x=1\n"


def test_a_pack_that_is_there_is_not_written_again(here, tmp_path):
    log = tmp_path / "log"
    assert run_command(["pack", f"out={tmp_path}"], {}, log, time.monotonic()) == 0
    assert not log.exists()


def test_the_key_depends_on_words_and_not_on_places(here, tmp_path):
    other = Places(tmp_path / "elsewhere", tmp_path / "results")
    one = part_of(here, "{data}/x")
    assert one.commands[0][1] == f"{here.data}/x"
    assert one.key == part_of(other, "{data}/x").key != part_of(here, "{data}/y").key
    assert one.runs == part_of(here, "{data}/x", minutes=9).runs


def test_figures_of_a_training(tmp_path):
    run = tmp_path / "lspet_stage1"
    run.mkdir()
    for name in ("config.yaml", "train.log"):
        (run / name).touch()
    lines = ["0,0.0,100.0,1000", "1,100.0,101.0,1000", "2,102.0,103.0,1000", "3,103.0,10"]
    (run / "pace.csv").write_text("\n".join(lines))
    busy = [(50.0, 0.0), (100.5, 0.9), (100.9, 1.0), (101.5, 0.1), (102.5, 0.98)]
    (found,) = trainings(tmp_path, busy)
    assert found["rate"] == 1000
    assert found["busy"] == 0.98
    assert found["busy_mean"] == pytest.approx(0.96)
    assert not found["finished"]


def test_samples_of_the_driver(tmp_path):
    file = tmp_path / "busy.csv"
    file.write_text("2026/01/02 03:04:05.678, 97\n2026/01/02 03:04:06.678, [N/A]\n2026/01/0")
    ((when, share),) = samples(file)
    assert share == 0.97
    assert time.localtime(when)[:6] == (2026, 1, 2, 3, 4, 5)


def test_the_page_shows_goals_beside_what_was_measured(here):
    part = part_of(here, "x", name="rows")
    report = Report(here.results / "report.json", "make", DEVICE)
    parts = {"rows": {"title": "rows", "minutes": 22}}
    write_page(report, parts)
    page = (here.results / "README.md").read_text()
    assert page.count("not measured") == 5  # four goals, one part
    run = {"run": "stage1_s0", "finished": True, "epochs": 20, "seconds": 300, "AP": 0.5}
    report.put(part, "done", 5.0, runs=[run | {"rate": 900.0, "busy": 0.957, "busy_mean": 0.9}])
    (here.results / "step.json").write_text(json.dumps({"rows": STEP}))
    write_page(report, parts)
    page = (here.results / "README.md").read_text()
    assert "| 2.5 times | 2.61 times |" in page
    assert "| 3,000 on an H200 | 3,100 |" in page
    assert "| 3 times | 3.10 times |" in page
    assert "| 95 % | 96 % |" in page
    assert "| rows: stage1_s0 | 20 | 5.0 | 50.0 | 900 | 95.7 | 90.0 |" in page


def test_what_is_brought_back_can_be_restored(here, tmp_path, tiny_checkpoints):
    run = here.folder / "runs/one-1/lspet_stage1"
    run.mkdir(parents=True)
    (run / "best.ckpt").write_bytes(tiny_checkpoints["student"].read_bytes())
    for name in ("config.yaml", "metrics.json"):
        (run / name).write_text(name)
    Report(here.results / "report.json", "make", DEVICE).put(part_of(here, "x"), "done", 1, runs=[])
    travel.bring(here, tmp_path / "brought")
    new = Places(tmp_path / "new", tmp_path / "new_results")
    travel.restore(tmp_path / "brought", new)
    again = new.folder / "runs/one-1/lspet_stage1"
    assert (again / "metrics.json").read_text() == "metrics.json"
    size = (again / "best.ckpt").stat().st_size
    assert size < 0.7 * (run / "best.ckpt").stat().st_size
    assert json.loads((new.results / "report.json").read_text())["parts"]["one"]["status"] == "done"
    (new.results / "report.json").write_text('{"parts": {"two": {"date": "3000"}}}')
    travel.restore(tmp_path / "brought", new)
    assert "3000" in (new.results / "report.json").read_text()
    with pytest.raises(FileNotFoundError, match=r"no campaign\.tar\.0 in "):
        travel.restore(tmp_path / "new", new)


def toy_command(tmp_path):
    """The command of the toy campaign, of two parts: all of them take five minutes."""
    out, folder = tmp_path / "results/report.json", tmp_path / "work"
    words = ["what=gpu_toy", f"out={out}", f"what.campaign.folder={folder}"]
    words += ["what.campaign.part=[feed,rows]"]
    words += [f"what.campaign.bring={tmp_path}/brought", "what.campaign.minutes=60"]
    return [sys.executable, "-m", "kdpose", "benchmark", *words]


@pytest.mark.slow
def test_parts_at_toy_size_survive_a_kill_and_do_nothing_twice(tmp_path):
    toy.draw(tmp_path / "work/data", train=6, val=2)
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    how = {"env": variables, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = toy_command(tmp_path)
    first = subprocess.Popen(command, start_new_session=True, **how)
    runs = tmp_path / "work/runs"
    while not list(runs.glob("rows-*/lspet_ablation/teacher/last.ckpt")) and first.poll() is None:
        time.sleep(0.05)
    if first.poll() is None:
        os.killpg(first.pid, signal.SIGKILL)
    said = first.communicate()[0]
    report = tmp_path / "results/report.json"
    done = json.loads(report.read_text())["parts"]
    assert [part["status"] for part in done.values()] == ["done"], said
    second = subprocess.run(command, check=False, **how)
    assert second.returncode == 0, second.stdout + (tmp_path / "work/logs/rows.log").read_text()
    parts = json.loads(report.read_text())["parts"]
    assert [parts[name] == done[name] for name in done] == [True]
    rows = {run["run"]: run for run in parts["rows"]["runs"]}
    assert len(rows) == 4
    assert all(run["finished"] and run["epochs"] == 3 and run["rate"] > 0 for run in rows.values())
    kept = {file: file.stat().st_mtime_ns for file in runs.rglob("*.ckpt")}
    third = subprocess.run(command, check=False, **how)
    assert third.stdout.count(": done already") == 2, third.stdout
    assert kept == {file: file.stat().st_mtime_ns for file in runs.rglob("*.ckpt")}
    page = (tmp_path / "results/README.md").read_text()
    assert "| step |" in page
    assert "rows: lspet_ablation/stage2_s0" in page
    assert sum(f.stat().st_size for f in (tmp_path / "brought").iterdir()) < 64 * 2**20
