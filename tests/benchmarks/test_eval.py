import json
import sys

import numpy as np
import pytest

from benchmarks import eval as evaluation
from benchmarks.eval import cases, synthetic
from kdpose import benchmark
from kdpose.skeletons.known import CROWDPOSE

SMALL = {"images": 40, "persons": 80, "labelled": 50, "detections": 400}


def test_the_command(monkeypatch, tmp_path):
    out = tmp_path / "eval.json"
    sizes = [f"what.cases.{name}={value}" for name, value in SMALL.items()]
    monkeypatch.setattr(
        sys,
        "argv",
        ["kdpose", "what=eval", *sizes, "repeats=1", f"out={out}", f"scratch={tmp_path}"],
    )
    benchmark.main()
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert rows.keys() == {
        f"{p}: {n}" for p in ("coco", "crowdpose") for n in ("kdpose", "pycocotools")
    }
    assert rows["coco: kdpose"]["ratio"] > 0


def test_what_is_evaluated():
    content, results = synthetic(np.random.default_rng(0), CROWDPOSE, *SMALL.values())
    assert len(content["images"]) == 40
    assert len(content["annotations"]) == 80
    assert sum(a["num_keypoints"] > 0 for a in content["annotations"]) in range(45, 51)
    assert len(results) == 400
    assert {len(r["keypoints"]) for r in results} == {3 * 14}


def test_other_digits_are_an_error(monkeypatch, tmp_path):
    true = evaluation.keypoint_ap
    reference, ours = cases(**SMALL, crowd=False, scratch=tmp_path)
    reference.run()
    assert ours.run() == 400
    monkeypatch.setattr(evaluation, "keypoint_ap", lambda *a, **k: true(*a, **k) | {"AP": 0.123})
    with pytest.raises(RuntimeError, match=r"kdpose gave .*0.123.*, pycocotools gave"):
        ours.run()
