"""The figures on people whose OKS is known by hand; real ones: test_keypoint_ap_pycocotools."""

import json
import logging
import math

import pytest

from kdpose.metrics.keypoint_ap import keypoint_ap

AREA = 0.53 * 100 * 100


def person(number, image_id=1, joints=14, **changes):
    points = [(10.0 * number + 7 * k, 40.0 + 5 * k, 2) for k in range(joints)]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [value for point in points for value in point],
        "num_keypoints": joints,
        "iscrowd": 0,
        "bbox": [10.0 * number, 40.0, 100.0, 100.0],
        "area": AREA,
    } | changes


def found(truth, oks=1.0, score=1.0, sigma=0.1):
    """A result whose joints all lie as far off as makes this OKS."""
    shift = math.sqrt(-math.log(oks) * 2 * AREA) * 2 * sigma
    keypoints = list(truth["keypoints"])
    keypoints[0::3] = [x + shift for x in keypoints[0::3]]
    keypoints[2::3] = [1.0] * (len(keypoints) // 3)
    return {"image_id": truth["image_id"], "keypoints": keypoints, "score": score}


@pytest.fixture
def write(tmp_path):
    def write_file(people, crowd_indices=(0.1, 0.5, 0.9)):
        images = [{"id": n, "crowdIndex": c} for n, c in enumerate(crowd_indices, start=1)]
        content = {"images": images, "annotations": people, "categories": [{"id": 1}]}
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return write_file


def score_crowd(path, results, joints=14, **options):
    return keypoint_ap(path, results, protocol="crowdpose", sigmas=[0.1] * joints, **options)


@pytest.mark.parametrize("joints", [3, 14, 17])
@pytest.mark.parametrize("protocol", ["coco", "crowdpose"])
def test_ap_by_hand(write, joints, protocol):
    people = [person(1, joints=joints)]
    results = [found(people[0], oks=0.72)]
    got = keypoint_ap(write(people), results, protocol=protocol, sigmas=[0.1] * joints)
    # 0.50 ... 0.70 pass, 0.75 ... 0.95 do not; 73 px squared is COCO's medium.
    shared = {"AP": 0.5, "AP50": 1.0, "AP75": 0.0, "AR": 0.5}
    own = {
        "coco": {"APM": 0.5, "APL": None},
        "crowdpose": {"AP_easy": 0.5, "AP_medium": None, "AP_hard": None},
    }
    assert got == pytest.approx(shared | own[protocol])


def test_one_of_two_found(write):
    people = [person(1), person(2, image_id=3)]
    got = score_crowd(write(people), [found(people[0])])
    # Precision 1 at the 51 recalls up to 0.5, 0 at the other 50.
    assert got["AP"] == pytest.approx(51 / 101)
    assert got["AR"] == pytest.approx(0.5)
    assert (got["AP_easy"], got["AP_medium"], got["AP_hard"]) == (1.0, None, 0.0)


def test_the_files_own_count_decides_who_is_ignored(write):
    people = [person(1), person(2, image_id=2, num_keypoints=0), person(3, image_id=2, iscrowd=1)]
    assert score_crowd(write(people), [found(people[0])])["AP"] == pytest.approx(1.0)
    # If found, ignored ones are not false positives, and they form no subset.
    got = score_crowd(write(people), [found(p) for p in people])
    assert (got["AP"], got["AP_easy"], got["AP_medium"]) == (pytest.approx(1.0), 1.0, None)


def test_crowdpose_takes_the_box_and_not_the_files_area(write):
    people = [person(1, area=1.0)]
    assert score_crowd(write(people), [found(people[0], oks=0.72)])["AP"] == pytest.approx(0.5)


def test_fields_left_out_are_derived(write, caplog):
    whole = [person(0), person(1, image_id=2)]  # id 0 means "unmatched" to the evaluator
    bare = [
        {k: v for k, v in p.items() if k not in ("area", "num_keypoints", "iscrowd")} for p in whole
    ]
    results = [found(p, oks=0.72) for p in whole]
    with caplog.at_level(logging.WARNING):
        got = keypoint_ap(write(bare), results, protocol="coco", sigmas=[0.1] * 14)
    assert got["AP"] == pytest.approx(0.5)
    assert [r.getMessage().split("; ")[0].split(": ")[1] for r in caplog.records] == [
        "2 of 2 persons have no 'area'"
    ]
    caplog.clear()
    score_crowd(write(bare), results)
    assert not caplog.records


@pytest.mark.parametrize("protocol", ["coco", "crowdpose"])
def test_nothing_predicted_is_zero(write, protocol):
    got = keypoint_ap(write([person(1)]), [], protocol=protocol, sigmas=[0.1] * 14)
    defined = {name for name, value in got.items() if value is not None}
    assert defined == {
        "AP",
        "AP50",
        "AP75",
        "AR",
        {"coco": "APM", "crowdpose": "AP_easy"}[protocol],
    }
    assert all(got[name] == 0.0 for name in defined)


@pytest.mark.parametrize("protocol", ["coco", "crowdpose"])
@pytest.mark.parametrize("people", [[], [person(1, num_keypoints=0)], [person(1, iscrowd=1)]])
def test_nobody_to_find_is_none(write, protocol, people):
    results = [found(person(1))]
    got = keypoint_ap(write(people), results, protocol=protocol, sigmas=[0.1] * 14)
    assert set(got.values()) == {None}


def test_image_ids_restrict_truth_and_results(write):
    people = [person(1), person(2, image_id=2)]
    results = [found(people[0]), found(person(9, image_id=2), oks=0.01, score=2.0)]
    path = write(people)
    assert score_crowd(path, results)["AP"] < 0.5
    got = score_crowd(path, results, image_ids=[1])
    assert (got["AP"], got["AP_easy"], got["AP_medium"]) == (pytest.approx(1.0), 1.0, None)
    assert set(score_crowd(path, results, image_ids=[]).values()) == {None}


def test_cuts_are_lower_ends(write):
    people = [person(n, image_id=n) for n in (1, 2, 3)]
    results = [found(people[n], oks) for n, oks in enumerate((1.0, 0.72, 0.52))]
    got = score_crowd(write(people, (0.19, 0.2, 0.8)), results)
    assert [got[f"AP_{name}"] for name in ("easy", "medium", "hard")] == [1.0, 0.5, 0.1]
    got = score_crowd(write(people, (0.19, 0.2, 0.8)), results, crowd_cuts=(0.0, 0.2))
    assert (got["AP_easy"], got["AP_medium"]) == (None, 1.0)


def test_images_without_crowd_index_are_in_no_subset(write):
    path = write([person(1)])
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["crowdIndex"]
    path.write_text(json.dumps(content))
    got = score_crowd(path, [found(person(1))])
    assert got["AP"] == pytest.approx(1.0)
    assert {got["AP_easy"], got["AP_medium"], got["AP_hard"]} == {None}


def test_nothing_is_printed(write, capfd):
    score_crowd(write([person(1)]), [found(person(1))])
    assert capfd.readouterr() == ("", "")


def test_errors_say_what_and_where(write, tmp_path):
    path = write([person(1)])
    good = found(person(1))
    stranger = good | {"image_id": 77}
    with pytest.raises(ValueError, match=rf"1 of 2 results name .* not in {path}, e\.g\. id 77"):
        score_crowd(path, [good, stranger])
    with pytest.raises(ValueError, match=r"1 of 2 image_ids name images .* e\.g\. id 5"):
        score_crowd(path, [good], image_ids=[1, 5])
    with pytest.raises(ValueError, match=r"result 1 lacks \['score'\]: it has \['image_id', 'key"):
        score_crowd(path, [good, {k: v for k, v in good.items() if k != "score"}])
    with pytest.raises(ValueError, match="result 1 must have a 'bbox' as the first result has"):
        score_crowd(path, [good | {"bbox": [0, 0, 9, 9]}, good])
    with pytest.raises(ValueError, match=r"result 0 must have 51 keypoint numbers .* got 42"):
        score_crowd(write([person(1, joints=17)]), [good], joints=17)
    with pytest.raises(ValueError, match="person 1 has 14 joints, must be 17"):
        score_crowd(write([person(1)]), [], joints=17)
    with pytest.raises(ValueError, match="protocol must be 'coco' or 'crowdpose', got 'mpii'"):
        keypoint_ap(path, [], protocol="mpii", sigmas=[0.1] * 14)
    with pytest.raises(ValueError, match="crowd_cuts must be"):
        score_crowd(path, [good], crowd_cuts=(0.8, 0.2))
    with pytest.raises(FileNotFoundError, match=f"no annotations at {tmp_path / 'gone.json'}"):
        score_crowd(tmp_path / "gone.json", [good])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["keypoints", "score"])
def test_a_diverged_network_does_not_score(write, key, value):
    result = found(person(1))
    result[key] = [value] * 42 if key == "keypoints" else value
    with pytest.raises(ValueError, match=r"result 0 \(image 1\) must have finite"):
        score_crowd(write([person(1)]), [result])
