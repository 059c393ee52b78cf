"""The figures on real annotations against plain pycocotools."""

import contextlib
import copy
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO as PlainCOCO
from pycocotools.cocoeval import COCOeval

from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.skeletons.known import COCO, CROWDPOSE

REAL = Path(os.environ.get("KDPOSE_REAL_DATA", "../shared/data"))


def real(relative):
    path = REAL / relative
    if not path.is_file():
        pytest.skip(f"no {path}; set KDPOSE_REAL_DATA to a folder with the real annotations")
    return path


def guesses(path, seed, image_ids=None, copies=4):
    """Fewer than ``copies`` noisy ones of every person, ignored or not, and some of nobody."""
    rng = np.random.default_rng(seed)
    results = []
    for person in json.loads(path.read_text())["annotations"]:
        if image_ids is not None and person["image_id"] not in image_ids:
            continue
        x, y, w, h = person["bbox"]
        truth = np.array(person["keypoints"], float).reshape(-1, 3)
        anywhere = np.array([x, y]) + rng.random((len(truth), 2)) * (w, h)
        truth = np.where(truth[:, 2:] > 0, truth[:, :2], anywhere)
        for _ in range(rng.integers(0, copies)):
            points = truth + rng.normal(0, 1, truth.shape) * math.sqrt(w * h) * rng.random() * 0.15
            points += (rng.random() < 0.1) * 300
            scores = rng.random((len(truth), 1))
            results.append(
                {
                    "image_id": person["image_id"],
                    "category_id": 1,
                    "keypoints": np.hstack([points, scores]).ravel().tolist(),
                    "score": float(rng.choice([rng.random(), 0.5])),  # many ties
                }
            )
    return results


def plain_evaluation(path, results, sigmas, image_ids=None, *, box_area=False):
    """pycocotools' evaluator after its accumulation."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = PlainCOCO(str(path))
        if box_area:
            for person in truth.anns.values():
                person["area"] = person["bbox"][2] * person["bbox"][3] * 0.53
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:  # its loadRes cannot read an empty list
            found = PlainCOCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        if not box_area:
            evaluator.summarize()
    return evaluator


def coco_reference(path, results, image_ids=None):
    stats = plain_evaluation(path, results, COCO.sigmas, image_ids).stats
    names = ("AP", "AP50", "AP75", "APM", "APL", "AR")
    return {n: None if v == -1 else v for n, v in zip(names, stats, strict=False)}


@pytest.mark.parametrize("copies", [2, 4, 60])  # 60: more than the 20 that count per image
@pytest.mark.parametrize("seed", range(5))
def test_coco_equals_pycocotools(seed, copies):
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    results = guesses(path, seed, copies=copies)
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas)
    assert 0.01 < got["AP"] < 0.9
    assert got == pytest.approx(coco_reference(path, results), abs=1e-9)


def test_coco_without_predictions_equals_pycocotools():
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    got = keypoint_ap(path, [], protocol="coco", sigmas=COCO.sigmas)
    assert got == coco_reference(path, [])
    assert set(got.values()) == {0.0}


@pytest.mark.parametrize("seed", range(4))
def test_coco_on_some_images_equals_pycocotools(seed):
    """A few images: often one of the two sizes has nobody."""
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    people = [a for a in json.loads(path.read_text())["annotations"] if a["num_keypoints"]]
    large = seed % 2
    chosen = {a["image_id"] for a in people if (a["area"] > 96**2) == large}
    chosen -= {a["image_id"] for a in people if (a["area"] > 96**2) != large}
    results = guesses(path, seed)
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas, image_ids=list(chosen))
    assert got == pytest.approx(coco_reference(path, results, sorted(chosen)), abs=1e-9)
    assert got["APM" if large else "APL"] is None


@pytest.mark.parametrize("first_has_one", [True, False])
def test_the_first_results_box_decides_as_in_pycocotools(first_has_one):
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    image_ids = sorted(image["id"] for image in json.loads(path.read_text())["images"])[::2]
    results = guesses(path, 9)
    for result in results[not first_has_one :]:  # far too large, for all but perhaps the first
        result["bbox"] = [0, 0, 400, 400]
    before = copy.deepcopy(results)
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas, image_ids=image_ids)
    assert got == pytest.approx(coco_reference(path, results, image_ids), abs=1e-9)
    assert results == before
    plain = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    bare = keypoint_ap(path, plain, protocol="coco", sigmas=COCO.sigmas, image_ids=image_ids)
    assert (got == bare) != first_has_one


def crowd_reference(path, results, chosen, cuts=(0.2, 0.8)):
    def run(image_ids):
        out = plain_evaluation(path, results, CROWDPOSE.sigmas, image_ids, box_area=True).eval
        return out["precision"][:, :, :, 0, 0], out["recall"][:, :, 0, 0]

    precision, recall = run(chosen)
    figures = {
        "AP": precision.mean(),
        "AP50": precision[0].mean(),
        "AP75": precision[5].mean(),
        "AR": recall.mean(),
    }
    index = {i["id"]: i["crowdIndex"] for i in json.loads(path.read_text())["images"]}
    bounds = {"easy": (-1, cuts[0]), "medium": cuts, "hard": (cuts[1], 99)}
    for name, (low, high) in bounds.items():
        subset = [i for i in chosen if low <= index[i] < high]
        # with no image pycocotools takes all
        value = round(run(subset)[0].mean(), 4) if subset else -1
        figures[f"AP_{name}"] = value
    return {name: None if value == -1 else value for name, value in figures.items()}


def crowd_case(kind, seed):
    """The file, some of its images and results for them."""
    path = real("crowdpose/annotations/crowdpose_val.json")
    data = json.loads(path.read_text())
    index = {i["id"]: i["crowdIndex"] for i in data["images"]}
    ids = np.random.default_rng(seed).permutation(list(index)).tolist()
    ignored = {a["image_id"] for a in data["annotations"] if not a["num_keypoints"]}
    pool = {
        "any": ids,
        "no easy": [i for i in ids if index[i] >= 0.2],
        "ignored": [i for i in ids if i in ignored],
        "many": ids,
        "empty": ids,
    }[kind]
    chosen = pool[:25]
    copies = {"many": 30, "empty": 1}.get(kind, 4)
    return path, chosen, guesses(path, seed, set(chosen), copies)


@pytest.mark.parametrize("kind", ["any", "no easy", "ignored", "many", "empty"])
@pytest.mark.parametrize(("seed", "cuts"), [(0, (0.2, 0.8)), (1, (0.2, 0.8)), (2, (0.1, 0.8))])
def test_crowdpose_equals_plain_pycocotools(kind, seed, cuts):
    path, chosen, results = crowd_case(kind, seed)
    options = {"protocol": "crowdpose", "sigmas": CROWDPOSE.sigmas, "crowd_cuts": cuts}
    got = keypoint_ap(path, results, image_ids=chosen, **options)
    assert got == pytest.approx(crowd_reference(path, results, chosen, cuts), abs=1e-12)
    if kind == "empty":
        assert got["AP"] == 0
    else:
        assert 0.01 < got["AP"] < 0.9
    if kind == "no easy" and cuts[0] == 0.2:
        assert got["AP_easy"] is None


@pytest.mark.slow
def test_all_of_crowdpose_val_equals_plain_pycocotools():
    path = real("crowdpose/annotations/crowdpose_val.json")
    results = guesses(path, 3, copies=3)
    got = keypoint_ap(path, results, protocol="crowdpose", sigmas=CROWDPOSE.sigmas)
    chosen = [image["id"] for image in json.loads(path.read_text())["images"]]
    assert got == pytest.approx(crowd_reference(path, results, chosen), abs=1e-12)


def val2017_sized(rng):
    """Annotations of 11,004 persons, 6,352 of them labelled, in 2,693 of 5,000 images."""
    owners = rng.integers(1, 2694, 11004)
    boxes = np.hstack([rng.uniform(0, 300, (11004, 2)), rng.lognormal(4.4, 0.8, (11004, 2))])
    joints = boxes[:, None, :2] + rng.random((11004, 17, 2)) * boxes[:, None, 2:]
    visible = rng.integers(0, 3, (11004, 17, 1)) * (rng.permutation(11004) < 6352)[:, None, None]
    keypoints = np.dstack([joints * (visible > 0), visible]).round(2).reshape(-1, 51)
    people = [
        {
            "id": n + 1,
            "image_id": int(owners[n]),
            "category_id": 1,
            "iscrowd": int(not keypoints[n, 2::3].any() and n % 25 == 0),
            "bbox": boxes[n].round(2).tolist(),
            "area": float(boxes[n, 2] * boxes[n, 3] * 0.6),
            "num_keypoints": int((keypoints[n, 2::3] > 0).sum()),
            "keypoints": keypoints[n].tolist(),
        }
        for n in range(11004)
    ]
    content = {
        "images": [{"id": n} for n in range(1, 5001)],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints)}],
    }
    return content, joints, boxes


@pytest.mark.slow
def test_a_file_of_val2017s_size_equals_pycocotools(tmp_path):
    """With 20,000 detections."""
    rng = np.random.default_rng(0)
    content, joints, boxes = val2017_sized(rng)
    path = tmp_path / "val2017.json"
    path.write_text(json.dumps(content))
    seen = rng.integers(0, len(boxes), 20_000)
    spread = 0.2 * rng.random(len(seen)) * np.sqrt(boxes[seen, 2:].prod(1))
    points = joints[seen] + rng.normal(0, 1, (len(seen), 17, 2)) * spread[:, None, None]
    triplets = np.dstack([points, rng.random((len(seen), 17, 1))]).round(3).reshape(-1, 51)
    results = [
        {
            "image_id": content["annotations"][n]["image_id"],
            "category_id": 1,
            "keypoints": row,
            "score": score,
        }
        for n, row, score in zip(
            seen, triplets.tolist(), rng.random(len(seen)).tolist(), strict=True
        )
    ]
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas)
    assert got == pytest.approx(coco_reference(path, results), abs=1e-9)
    assert 0.05 < got["AP"] < 0.9
