"""AP from matches against the evaluator itself, on whole and on resampled splits."""

import json

import numpy as np
import pytest

from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.matches import average_precision, draw_images, interval, resampled_ap
from kdpose.metrics.matching import match_persons
from kdpose.metrics.people import ground_truth, read_detections
from kdpose.skeletons.known import CROWDPOSE

K = len(CROWDPOSE)
SIGMAS = CROWDPOSE.sigmas


def crowded_split(seed, images=30):
    """Persons labelled in part, some ignored, images without anybody; results of all qualities."""
    rng = np.random.default_rng(seed)
    data = {"images": [{"id": 7 + 3 * i, "file_name": f"{i}.jpg"} for i in range(images)]}
    data["annotations"], results = [], []
    for image in data["images"]:
        for _ in range(rng.integers(0, 5)):
            corner, size = rng.uniform(0, 300, 2), rng.uniform(40, 150, 2)
            joints = corner + rng.uniform(0, 1, (K, 2)) * size
            visible = rng.integers(0, 3, K)
            person = {
                "id": len(data["annotations"]),
                "image_id": image["id"],
                "category_id": 1,
                "bbox": [*corner, *size],
                "area": float(size.prod()),
                "keypoints": np.column_stack([joints, visible]).ravel().tolist(),
                "num_keypoints": int((visible > 0).sum()) * int(rng.random() > 0.15),
                "iscrowd": int(rng.random() < 0.05),
            }
            data["annotations"].append(person)
            for _ in range(rng.integers(0, 3)):
                off = rng.normal(0, rng.choice([1, 4, 12, 60]), (K, 2))
                poses = np.column_stack([joints + off, np.ones(K)])
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": 1,
                        "keypoints": poses.ravel().tolist(),
                        "score": float(rng.random()),
                    }
                )
    return data, results


def matched(data, results, path):
    images = {i["id"]: i for i in data["images"]}
    truth = ground_truth(data, path, "coco", K)
    found = read_detections(results, images, path, K)
    return match_persons(truth, found, sorted(images), SIGMAS)[0]


def repeated(data, results, counts):
    """The split written out: each image as often as it was drawn, under an id of its own."""
    out, found = {"images": [], "annotations": []}, []
    for image, count in zip(data["images"], counts, strict=True):
        for _ in range(count):
            number = len(out["images"]) + 1
            out["images"].append(image | {"id": number})
            out["annotations"] += [
                a | {"image_id": number}
                for a in data["annotations"]
                if a["image_id"] == image["id"]
            ]
            found += [r | {"image_id": number} for r in results if r["image_id"] == image["id"]]
    return out, found


def slow_ap(data, results, path):
    path.write_text(json.dumps(data))
    return keypoint_ap(path, results, protocol="coco", sigmas=SIGMAS)["AP"]


@pytest.mark.parametrize("seed", range(4))
def test_ap_is_the_evaluators(seed, tmp_path):
    data, results = crowded_split(seed)
    ap = average_precision(matched(data, results, tmp_path / "a.json"))
    assert 0.1 < ap < 0.9
    assert ap == pytest.approx(slow_ap(data, results, tmp_path / "a.json"), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_ap_is_the_evaluators_on_the_split_written_out(seed, tmp_path):
    data, results = crowded_split(seed, images=20)
    draws = draw_images(20, resamples=6, seed=seed)
    fast = resampled_ap(matched(data, results, tmp_path / "a.json"), draws)
    slow = [slow_ap(*repeated(data, results, c), tmp_path / "r.json") for c in draws]
    np.testing.assert_allclose(fast, slow, atol=1e-6)
    assert np.ptp(fast) > 0.01


def test_nobody_to_find_and_nothing_found(tmp_path):
    data, results = crowded_split(0)
    nothing = matched(data, [], tmp_path / "a.json")
    assert average_precision(nothing) == 0
    assert average_precision(nothing, np.zeros(len(data["images"]), np.int64)) is None
    draws = np.stack([np.zeros(30, np.int64), np.ones(30, np.int64)])
    found = resampled_ap(matched(data, results, tmp_path / "a.json"), draws)
    assert np.isnan(found[0])
    assert found[1] > 0


def test_best_oks_by_hand(tmp_path):
    """Two persons, one found exactly and one off by sigma's distance in every joint; one nobody."""
    joints = np.stack([np.full(K, 50.0), np.full(K, 80.0)], axis=1)
    area = 900.0
    persons = [
        {
            "id": n,
            "image_id": 1,
            "bbox": [0, 0, 30, 30],
            "area": area,
            "keypoints": np.column_stack([joints + shift, np.full(K, 2)]).ravel().tolist(),
        }
        for n, shift in enumerate((0, 500))
    ]
    data = {"images": [{"id": 1}, {"id": 2}], "annotations": persons}
    off = np.zeros((K, 2))
    off[:, 0] = 2 * np.array(SIGMAS) * np.sqrt(area)  # d^2 = (2 sigma)^2 area: OKS exp(-1/2)
    poses = (joints, joints + 500 + off)
    results = [
        {
            "image_id": 1,
            "score": 1.0,
            "keypoints": np.column_stack([p, np.ones(K)]).ravel().tolist(),
        }
        for p in poses
    ]
    best = matched(data, results, tmp_path / "a.json").best_oks
    assert best[0] == pytest.approx((1 + np.exp(-0.5)) / 2)
    assert np.isnan(best[1])


def test_draws_are_whole_splits_and_repeatable():
    draws = draw_images(50, resamples=200, seed=1)
    assert draws.shape == (200, 50)
    assert (draws.sum(axis=1) == 50).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(50), abs=0.4)
    np.testing.assert_array_equal(draws, draw_images(50, resamples=200, seed=1))
    assert (draws != draw_images(50, resamples=200, seed=2)).any()


def test_interval_by_hand():
    values = np.append(np.arange(101.0), np.nan)
    assert interval(values, 0.9) == pytest.approx((5, 95))
    assert interval(values, 0.5) == pytest.approx((25, 75))
