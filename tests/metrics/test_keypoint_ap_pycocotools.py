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

from kdpose.keypoints import COCO, CROWDPOSE
from kdpose.metrics.keypoint_ap import keypoint_ap

REAL = Path(os.environ.get("KDPOSE_REAL_DATA", "../shared/data"))


def real(relative):
    path = REAL / relative
    if not path.is_file():
        pytest.skip(f"no {path}; set KDPOSE_REAL_DATA to a folder with the real annotations")
    return path


def guesses(path, seed, image_ids=None):
    """Up to three noisy copies of every person, and some persons where nobody is."""
    rng = np.random.default_rng(seed)
    results = []
    for person in json.loads(path.read_text())["annotations"]:
        if image_ids is not None and person["image_id"] not in image_ids:
            continue
        x, y, w, h = person["bbox"]
        truth = np.array(person["keypoints"], float).reshape(-1, 3)
        anywhere = np.array([x, y]) + rng.random((len(truth), 2)) * (w, h)
        truth = np.where(truth[:, 2:] > 0, truth[:, :2], anywhere)
        for _ in range(rng.integers(0, 4)):
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
    """pycocotools' precision and recall arrays."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = PlainCOCO(str(path))
        if box_area:
            for person in truth.anns.values():
                person["area"] = person["bbox"][2] * person["bbox"][3] * 0.53
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        if image_ids is not None:
            evaluator.params.imgIds = list(image_ids)
        evaluator.evaluate()
        evaluator.accumulate()
        if not box_area:
            evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("seed", range(4))
def test_coco_equals_pycocotools(seed):
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    results = guesses(path, seed)
    stats = plain_evaluation(path, results, COCO.sigmas).stats
    want = {"AP": 0, "AP50": 1, "AP75": 2, "APM": 3, "APL": 4, "AR": 5}
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas)
    assert 0.01 < got["AP"] < 0.9
    assert got == pytest.approx({name: stats[i] for name, i in want.items()}, abs=1e-9)


def test_coco_detections_with_boxes_and_some_images_equal_pycocotools():
    path = real("coco_mini/annotations/person_keypoints_val2017.json")
    image_ids = sorted(image["id"] for image in json.loads(path.read_text())["images"])[::2]
    results = guesses(path, 9)
    for result in results:  # a box is the detection's area then, here far too large a one
        result["bbox"] = [0, 0, 400, 400]
    stats = plain_evaluation(path, results, COCO.sigmas, image_ids).stats
    before = copy.deepcopy(results)
    got = keypoint_ap(path, results, protocol="coco", sigmas=COCO.sigmas, image_ids=image_ids)
    want = dict(zip(("AP", "AP50", "AP75", "APM", "APL", "AR"), stats, strict=False))
    assert got == pytest.approx(want, abs=1e-9)
    assert results == before


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
    figures["AP_easy"] = round(run([i for i in chosen if index[i] < cuts[0]])[0].mean(), 4)
    medium = [i for i in chosen if cuts[0] <= index[i] < cuts[1]]
    figures["AP_medium"] = round(run(medium)[0].mean(), 4)
    figures["AP_hard"] = round(run([i for i in chosen if index[i] >= cuts[1]])[0].mean(), 4)
    return figures


@pytest.mark.parametrize(("seed", "cuts"), [(0, (0.2, 0.8)), (1, (0.2, 0.8)), (2, (0.1, 0.85))])
def test_crowdpose_equals_plain_pycocotools(seed, cuts):
    path = real("crowdpose/annotations/crowdpose_val.json")
    images = json.loads(path.read_text())["images"]
    chosen = np.random.default_rng(seed).permutation([i["id"] for i in images])[:80].tolist()
    results = guesses(path, seed, set(chosen))
    got = keypoint_ap(
        path,
        results,
        protocol="crowdpose",
        sigmas=CROWDPOSE.sigmas,
        image_ids=chosen,
        crowd_cuts=cuts,
    )
    want = crowd_reference(path, results, chosen, cuts)
    assert 0.01 < got["AP"] < 0.9
    assert got == pytest.approx(want, abs=1e-12)
