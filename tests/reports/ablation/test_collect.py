import json

import pytest

from kdpose.reports.ablation.collect import by_row, collect_runs


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("baseline_s0", "baseline"),
        ("stage1", "stage1"),
        ("stage1_fea_l1_s12", "stage1_fea_l1"),
        ("sweep/seed-3", "sweep"),
        ("sweep/lr-0.1_seed-3", "sweep/lr-0.1"),
        ("seeds", "seeds"),
    ],
)
def test_label_is_the_name_without_the_seed(make_run, tmp_path, name, label):
    make_run(name)
    (run,) = collect_runs([tmp_path / "runs"])
    assert run.name == name
    assert run.label == label
    if name == "sweep/seed-3":  # asked for by its own folder, the sweep still names the row
        assert collect_runs([tmp_path / "runs" / "sweep"])[0].label == "sweep"


def test_unfinished_and_kept_aside_runs_are_left_out(make_run, tmp_path):
    make_run("a_s0")
    make_run("a_s0.1")
    make_run("lr-0.1")  # no such thing: there is no lr-0
    (make_run("b_s0") / "metrics.json").unlink()
    (tmp_path / "runs" / "scheme_0_s0").mkdir()
    assert [run.name for run in collect_runs([tmp_path / "runs"])] == ["a_s0", "lr-0.1"]


def test_rows_by_seed_and_in_order(make_run, tmp_path):
    for name, seed in (("z_s1", 1), ("z_s0", 0), ("baseline_s1", 1), ("a_s0", 0)):
        make_run(name, seed)
    rows = by_row(collect_runs([tmp_path / "runs"]), ["teacher", "baseline", "z"])
    assert list(rows) == ["baseline", "z", "a"]
    assert [run.seed for run in rows["z"]] == [0, 1]


def test_lineage_and_hash(make_run, tmp_path):
    make_run("a_s0")
    make_run("a_s1", seed=1)
    make_run("b_s0", overrides=["data.num_workers=3", "name=a_s0"])
    taught = ["+experiment=stage2", "+scale=synthetic", "teacher.ckpt=x/teacher/best.ckpt"]
    make_run("c_s0", overrides=[*taught, "stage1_ckpt=x/stage1_s0/best.ckpt"])
    lines = {run.name: run.lineage for run in collect_runs([tmp_path / "runs"])}
    assert lines["a_s0"]["made from"] is None
    assert lines["c_s0"]["made from"] == "teacher + stage1_s0"
    assert lines["a_s0"]["config"] == lines["b_s0"]["config"]  # workers change no result
    assert lines["a_s0"]["config"] != lines["a_s1"]["config"]
    assert lines["a_s0"]["epochs"] == 3
    assert lines["a_s0"]["seconds"] == 12.5
    assert lines["a_s0"]["commit"] == "0123456789abcdef"


def test_gradient_shares_over_a_resumed_run(make_run, tmp_path):
    header = "epoch,step,train/loss,train/grad_kl,train/grad_fea\n"
    folder = make_run("a_s0", gradients=f"{header}0,5,1.0,,\n0,5,,3.0,1.0\n1,9,,1.0,1.0\n")
    later = folder / "csv" / "version_1"
    later.mkdir()
    (later / "metrics.csv").write_text(f"{header}1,9,,2.0,6.0\n2,14,,0.0,0.0\n")
    (run,) = collect_runs([folder])
    assert run.gradient_shares() == {
        "kl": {0: 0.75, 1: 0.25, 2: 0.0},
        "fea": {0: 0.25, 1: 0.75, 2: 0.0},
    }


def test_a_log_that_ended_before_its_first_epoch_counts_for_nothing(make_run, tmp_path):
    """Of a run that was stopped after its first step: the table has learning rates alone."""
    logged = "epoch,step,train/grad_kl\n0,5,3.0\n1,9,1.0\n"
    folder = make_run("stage1_s0", gradients=logged)
    first = folder / "csv" / "version_1"
    first.mkdir()
    (first / "metrics.csv").write_text("lr-AdamW/pg1,step\n1e-05,0\n")
    (run,) = collect_runs([tmp_path / "runs"])
    assert run.log() == {"train/grad_kl": {0: 3.0, 1: 1.0}}


def test_errors_say_what_to_mend(make_run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder at /nowhere \(from runs\)"):
        collect_runs(["/nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no finished run in .*empty"):
        collect_runs([tmp_path / "empty"])
    make_run("a_s0")
    make_run("x/a_s0")
    make_run("b_s0")
    make_run("b_s1", seed=1, overrides=["optimizer.lr=0.5"])
    runs = {run.name: run for run in collect_runs([tmp_path / "runs"])}
    with pytest.raises(ValueError, match=r"more than the seed: .*optimizer\.lr 0\.001 -> 0\.5"):
        by_row([runs["b_s0"], runs["b_s1"]], [])
    assert len(by_row([runs["a_s0"], runs["x/a_s0"]], [])) == 2
    with pytest.raises(ValueError, match="are both 'a' with seed 0"):
        by_row([runs["a_s0"], runs["a_s0"]], [])
    metrics = tmp_path / "runs" / "b_s1" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"flip": False}))
    with pytest.raises(
        ValueError, match=r"scored alike to compare: flip of .* is True, of .*False"
    ):
        collect_runs([tmp_path / "runs"])
