"""A small part of the campaign; results/reliability has the whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability.mutations import mutations
from benchmarks.reliability.records import Records

REPOSITORY = Path(__file__).parents[2]
COUNTS = "{kills: 3, mutations: 12, faults: 1, minutes: 0.1}"


def test_mutations_have_names_of_their_own_and_depend_on_the_seed_alone():
    names = [mutation.name for mutation in mutations(0)]
    assert len(set(names)) == len(names) >= 600
    assert names == [mutation.name for mutation in mutations(0)]
    assert names != [mutation.name for mutation in mutations(1)]
    assert sum(mutation.neutral for mutation in mutations(0)[:600]) > 10


def test_records_survive_a_line_that_was_cut_short(tmp_path):
    records = Records(tmp_path / "report.json", 0, "abc")
    records.add("kills", "one", {"fault": ""})
    with (tmp_path / "kills.jsonl").open("a") as file:
        file.write('{"key": "two", "fau')
    assert list(records.part("kills")) == ["one"]
    records.add("kills", "three", {"fault": "lost"})
    assert list(Records(tmp_path / "report.json", 0, "abc").part("kills")) == ["one", "three"]


def test_what_went_wrong_is_tried_again_on_new_code(tmp_path):
    before = Records(tmp_path / "report.json", 0, "abc")
    before.add("kills", "one", {"fault": "lost"})
    after = Records(tmp_path / "report.json", 0, "def")
    assert (before.has("kills", "one"), after.has("kills", "one")) == (True, False)
    after.add("kills", "one", {"fault": ""})
    assert before.has("kills", "one")
    assert not list(after.faults("kills"))


def test_a_report_of_another_seed_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"seed": 1}')
    with pytest.raises(ValueError, match=r"is of seed 1: take that seed or another out=FILE"):
        Records(tmp_path / "report.json", 0, "abc")


@pytest.mark.slow
def test_a_small_campaign_finds_nothing(tmp_path):
    out = tmp_path / "report.json"
    words = ["what=reliability", f"out={out}", f"what.campaign.counts={COUNTS}"]
    targets = "what.campaign.targets=[teacher,pack,predict]"
    done = subprocess.run(
        [sys.executable, "-m", "kdpose", "benchmark", *words, targets, f"scratch={tmp_path}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(out.read_text())["counts"]
    records = {part: (tmp_path / f"{part}.jsonl").read_text() for part in counts}
    assert counts == {
        "kills": {"all": 3},
        "mutations": {"all": 12},
        "faults": {"all": 1},
        "soak": {"all": 1},
    }, records
    assert (tmp_path / "README.md").read_text().startswith("# Reliability")
    assert (tmp_path / "soak.png").stat().st_size > 3000
