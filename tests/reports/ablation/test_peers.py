"""Systems trained elsewhere: scored by ``kdpose evaluate``, and shown beside the rows."""

import json

import pytest
from hydra import compose, initialize_config_dir

from kdpose.cli import CONF
from kdpose.reports.ablation.collect import collect_runs
from kdpose.reports.ablation.measure import ap_on, read_split
from kdpose.reports.ablation.report import write_report
from kdpose.skeletons.known import COCO, CROWDPOSE

SHARED = [name for name in CROWDPOSE.joints if name in COCO.joints]


def reported(runs, *overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        words = [f"runs={runs}", "resamples=20", *overrides]
        return write_report(compose("report", overrides=words))


def as_coco(results):
    """The same poses in COCO's skeleton, whose other joints are at 0."""
    place = {name: 3 * k for k, name in enumerate(CROWDPOSE.joints)}
    found = []
    for result in results:
        points: list[float] = []
        for name in COCO.joints:
            start = place.get(name)
            points += [0, 0, 0] if start is None else result["keypoints"][start : start + 3]
        found.append({**result, "keypoints": points})
    return found


@pytest.fixture
def runs(make_run, tmp_path):
    for seed in (0, 1):
        make_run(f"baseline_s{seed}", seed, noise=4.0 + seed)
    return tmp_path / "runs"


@pytest.fixture
def evaluated(runs, tmp_path, kdpose_here):
    """The record of the first run's own poses, given out as those of a COCO network."""
    run = collect_runs([runs])[0]
    (tmp_path / "results.json").write_text(json.dumps(as_coco(run.results)))
    path = tmp_path / "other.json"
    kdpose_here(
        "evaluate", f"predictions={tmp_path}/results.json", "skeleton=coco", "protocol=crowdpose",
        f"annotations={run.metrics['annotations']}", f"out={path}",
    )  # fmt: skip
    return path


def test_the_poses_of_a_row_have_its_ap_as_a_peer(runs, evaluated):
    run = collect_runs([runs])[0]
    record = json.loads(evaluated.read_text())
    assert record["shared_joints"] == SHARED
    assert len(SHARED) == 12
    ap = ap_on(run, read_split(run, CROWDPOSE), SHARED)
    assert ap == pytest.approx(record["AP"])
    assert ap != pytest.approx(run.metrics["AP"], abs=1e-3)  # of all 14


def test_the_table_has_peers_and_rows(runs, evaluated):
    reported(runs, f"peers=[{evaluated}]")
    text = (runs / "report" / "report.md").read_text()
    percent = 100 * json.loads(evaluated.read_text())["AP"]
    assert "|  | AP, 12 joints | input | boxes | flip test |" in text
    assert f"| other | {percent:.1f} | not known | not known | not known |" in text
    (line,) = [line for line in text.splitlines() if line.endswith("| 48x64 | ground truth | on |")]
    assert line.startswith("| baseline | ")
    assert " ± " in line


def test_without_peers_there_is_no_table(runs):
    reported(runs)
    assert "Other systems" not in (runs / "report" / "report.md").read_text()


def test_errors_say_what_to_mend(runs, evaluated, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*none\.json \(from peers\)"):
        reported(runs, f"peers=[{tmp_path}/none.json]")
    record = json.loads(evaluated.read_text())
    changed = tmp_path / "changed.json"
    for content, said in (
        ([], r"changed\.json \(from peers\) is no record of kdpose evaluate out=FILE\.json"),
        ({"AP": 0.5}, "is no record of kdpose evaluate"),
        (record | {"protocol": "coco"}, "must be scored as the runs are: its protocol is coco"),
        (record | {"annotations_sha256": "0"}, "evaluate it with annotations=.*crowdpose_test"),
    ):
        changed.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said):
            reported(runs, f"peers=[{changed}]")
    changed.write_text(json.dumps(record | {"shared_joints": SHARED[:3]}))
    with pytest.raises(ValueError, match="other has 12, changed 3: report them apart"):
        reported(runs, f"peers=[{evaluated},{changed}]")
