"""Records of results files; the figures themselves: tests/metrics."""

import json
import logging

import numpy as np
import pytest
from pycocotools.cocoeval import Params

import kdpose
from kdpose.evaluation.score import score, score_file
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import COCO, CROWDPOSE

CATEGORY = {"id": 1, "name": "person", "keypoints": list(CROWDPOSE.joints)}


def person(number, image_id, joints=14, seen=14, **more):
    points = [[10.0 * number + 3 * k, 20.0 + 5 * k, 2 * (k < seen)] for k in range(joints)]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [10 * number, 20, 60, 90],
        "area": 2000,
        "iscrowd": 0,
        "num_keypoints": seen,
        "keypoints": [value for point in points for value in point],
        **more,
    }


def found(truth, score=0.5, **more):
    return {k: truth[k] for k in ("image_id", "category_id", "keypoints")} | {"score": score} | more


@pytest.fixture
def files(tmp_path):
    """Writes annotations of three persons, one of whom is ignored, and results for them."""

    def write(change=lambda results: results, categories=(CATEGORY,)):
        people = [person(1, 1), person(2, 2), person(3, 3, seen=0)]
        images = [{"id": i, "crowdIndex": c} for i, c in ((1, 0.3), (2, 0.9), (3, 0.5))]
        truth = {"images": images, "annotations": people, "categories": list(categories)}
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        (tmp_path / "r.json").write_text(json.dumps(change([found(p) for p in people[:2]])))
        return tmp_path / "r.json", tmp_path / "truth.json"

    return write


def test_record_holds_all_that_the_figure_depends_on(files):
    results, truth = files()
    record = score_file(results, truth, protocol="crowdpose", crowd_cuts=(0.1, 0.8))
    assert record["AP"] == pytest.approx(1)
    assert (record["AP_easy"], record["AP_medium"], record["AP_hard"]) == (None, 1, 1)
    expected = {
        "protocol": "crowdpose",
        "split": "truth",
        "annotations": str(truth),
        "annotations_sha256": sha256(truth),
        "predictions": str(results),
        "predictions_sha256": sha256(results),
        "images": 3,
        "persons": 2,
        "results": 2,
        "skeleton": "crowdpose",
        "sigmas": list(CROWDPOSE.sigmas),
        "max_detections": 20,
        "crowd_cuts": [0.1, 0.8],
        "areas": "keypoints",
        "box_source": None,
        "boxes_sha256": None,
        "flip": None,
        "flip_shift_bins": None,
        "version": kdpose.__version__,
    }
    assert {key: record[key] for key in expected} == expected
    assert {"commit", "dirty", "torch", "date"} <= record.keys()
    assert Params("keypoints").maxDets == [record["max_detections"]]
    assert json.loads(json.dumps(record)) == record


def test_real_crowdpose_by_file_equals_the_function(real_data, tmp_path):
    truth = real_data / "crowdpose" / "annotations" / "crowdpose_val.json"
    people = json.loads(truth.read_text())["annotations"]
    rng = np.random.default_rng(0)
    results = []
    for p in people:
        moved = np.array(p["keypoints"], float).reshape(14, 3)
        moved[:, :2] += rng.normal(0, 0.06 * np.sqrt(p["bbox"][2] * p["bbox"][3]), (14, 2))
        results.append(found(p | {"keypoints": moved.ravel().tolist()}, float(rng.random())))
    (tmp_path / "r.json").write_text(json.dumps(results))
    record = score_file(tmp_path / "r.json", truth, protocol="crowdpose")
    assert (record["images"], record["persons"], record["results"]) == (2000, 7074, 8527)
    figures = keypoint_ap(truth, results, protocol="crowdpose", sigmas=CROWDPOSE.sigmas)
    assert {name: record[name] for name in figures} == figures
    assert 0.1 < record["AP"] < 0.9
    assert record["skeleton"] == "crowdpose"


def test_other_categories_are_passed_over_as_by_coco(files):
    strangers = files(
        lambda r: [*r, r[0] | {"category_id": 5, "score": 0.9, "keypoints": [0] * 42}]
    )
    assert score_file(*strangers, protocol="coco")["AP"] == pytest.approx(1)
    assert score_file(*strangers, protocol="coco")["results"] == 2
    renamed = files(lambda r: [x | {"category_id": 5} for x in r])  # as another tool numbers it
    assert score_file(*renamed, protocol="coco")["AP"] == pytest.approx(1)
    nobody = files(lambda r: [r[0] | {"category_id": 5}, r[1] | {"category_id": 6}])
    said = r"^0 of 2 results of .*r.json .*one of \[1\], it has 5 \(1 times\), 6 \(1 times\)$"
    with pytest.raises(ValueError, match=said):
        score_file(*nobody, protocol="coco")


def test_boxes_in_results_are_used_as_by_coco_and_not_in_silence(files, caplog):
    far_too_large = files(lambda r: [x | {"bbox": [0, 0, 500, 500]} for x in r])
    with caplog.at_level(logging.WARNING):
        record = score_file(*far_too_large, protocol="coco")
    assert record["areas"] == "bbox"
    assert "APM and APL do not compare" in caplog.text


def test_no_predictions_are_zero_and_said_to_be(files, caplog):
    with caplog.at_level(logging.WARNING):
        record = score_file(*files(lambda r: []), protocol="crowdpose")
    assert (record["AP"], record["AP_easy"], record["AP_hard"]) == (0, None, 0)
    assert "holds no predictions: nothing was found, AP is 0" in caplog.text


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda r: {"annotations": r},
            r"r.json \(from predictions\) must be a list .*, got a dict",
        ),
        (
            lambda r: [1, 2],
            "must be a list of {image_id, category_id, keypoints, score}, got a list",
        ),
        (lambda r: [x | {"image_id": 8} for x in r], "2 of 2 results name images that are not in"),
        (lambda r: [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}], r"lacks \['keypoints'\]"),
        (lambda r: [r[0] | {"keypoints": [1] * 51}], "result 0 must have 42 keypoint numbers"),
    ],
)
def test_files_that_do_not_fit(files, change, match):
    with pytest.raises(ValueError, match=match):
        score_file(*files(change), protocol="crowdpose")


def test_missing_files(files, tmp_path):
    results, truth = files()
    with pytest.raises(FileNotFoundError, match=r"no file at \S+none.json \(from predictions\)$"):
        score_file(tmp_path / "none.json", truth, protocol="coco")
    with pytest.raises(FileNotFoundError, match=r"no annotations at \S+none.json"):
        score_file(results, tmp_path / "none.json", protocol="coco")


def test_without_persons_nothing_can_be_scored(tmp_path):
    truth = tmp_path / "image_info_test-dev2017.json"
    truth.write_text(json.dumps({"images": [{"id": 1}], "categories": []}))
    record = score(truth, [found(person(1, 1, 17))], protocol="coco", skeleton=COCO)
    assert {record[name] for name in ("AP", "AP50", "AP75", "AR", "APM", "APL")} == {None}
    assert (record["images"], record["persons"], record["results"]) == (1, 0, 1)


def test_sigmas_that_nobody_gave_are_scored_at_half_and_double(files, tmp_path):
    names = {"keypoints": [f"point {k}" for k in range(14)]}

    def shifted(results):
        for result in results:
            result["keypoints"] = [v + 6 * (k % 3 == 0) for k, v in enumerate(result["keypoints"])]
        return results

    results, truth = files(shifted, categories=[CATEGORY | names])
    record = score_file(results, truth, protocol="coco")
    assert record["sigma_source"] == "default"
    for name, factor in (("AP_half_sigma", 0.5), ("AP", 1), ("AP_double_sigma", 2)):
        # 6 px aside on 2000 square pixels: exp(-36 / (2 * 2000 * (2 sigma)^2)) for every joint
        oks = np.exp(-36 / (2 * 2000 * (2 * factor * 0.079) ** 2))
        passed = (oks >= np.arange(0.5, 0.96, 0.05) - 1e-9).mean()
        assert record[name] == pytest.approx(passed)
    assert record["AP_half_sigma"] < record["AP"] < record["AP_double_sigma"]
    named = score_file(results, files(shifted)[1], protocol="coco")
    assert named["sigma_source"] == "given"
    assert "AP_half_sigma" not in named
