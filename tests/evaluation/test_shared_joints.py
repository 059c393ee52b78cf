"""A split reduced to the joints that two skeletons share, scored against its own labels."""

import json

import numpy as np
import pytest

from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.evaluation.shared_joints import SharedSplit
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.shared import SkeletonBridge


def split(root, teacher=COCO, **options):
    files = {
        name: {
            "annotations": str(root / "annotations" / f"crowdpose_{stem}.json"),
            "images": str(root / "images"),
        }
        for name, stem in (("train", "trainval"), ("val", "test"))
    }
    data = CocoKeypointDataModule(
        **files, skeleton=CROWDPOSE, protocol="crowdpose", input_size=(48, 64), num_workers=0
    )
    data.setup("fit")
    return SharedSplit(data, SkeletonBridge.between(CROWDPOSE, teacher), **options)


def people(crowd):
    return json.loads((crowd / "annotations" / "crowdpose_test.json").read_text())["annotations"]


def labels_as_results(crowd, move=(), by=0.0):
    """The labels in CrowdPose's joints, some of them moved along x."""
    results = []
    for person in people(crowd):
        points = np.array(person["keypoints"], dtype=float).reshape(-1, 3)
        points[list(move), 0] += by
        points[:, 2] = 1
        results.append(
            {"image_id": person["image_id"], "keypoints": points.ravel().tolist(), "score": 0.9}
        )
    return results


def test_labels_are_perfect_and_untaught_joints_do_not_matter(crowd):
    seen = split(crowd)
    ours = seen.bridge.student_joints
    assert seen.ap(labels_as_results(crowd), ours) == pytest.approx(1.0)
    assert seen.ap(labels_as_results(crowd, move=(12, 13), by=500.0), ours) == pytest.approx(1.0)
    assert seen.ap(labels_as_results(crowd, move=range(6), by=500.0), ours) < 0.5


def test_the_teachers_joints_are_found_where_its_skeleton_has_them(crowd):
    results = labels_as_results(crowd)
    for result in results:
        face = [[-999.0, -999.0, 1.0]] * 5  # COCO's first five, which CrowdPose lacks
        body = np.array(result["keypoints"]).reshape(-1, 3)[:12].tolist()
        result["keypoints"] = [v for point in face + body for v in point]
    seen = split(crowd)
    assert seen.ap(results, seen.bridge.teacher_joints) == pytest.approx(1.0)
    assert seen.ap(results, range(12)) < 0.5


def test_between_equal_skeletons_it_is_the_usual_ap(crowd):
    seen = split(crowd, teacher=CROWDPOSE)
    results = labels_as_results(crowd, move=(0, 3, 7), by=6.0)
    usual = keypoint_ap(seen.annotations, results, protocol="crowdpose", sigmas=CROWDPOSE.sigmas)
    assert 0 < usual["AP"] < 1
    assert seen.ap(results, seen.bridge.student_joints) == usual["AP"]


def test_a_limit_takes_whole_images_and_scores_them_alone(crowd):
    everyone = split(crowd)
    some = split(crowd, limit=5)
    assert 5 <= len(some.boxes) < len(everyone.boxes)
    chosen = set(some.boxes.image_id.tolist())
    of_chosen = [p for p in everyone.boxes.image_id.tolist() if p in chosen]
    assert len(some.boxes) == len(of_chosen)
    wrong_elsewhere = [
        r if r["image_id"] in chosen else {**r, "keypoints": [0.0] * 42}
        for r in labels_as_results(crowd)
    ]
    assert some.ap(wrong_elsewhere, some.bridge.student_joints) == pytest.approx(1.0)
    assert everyone.ap(wrong_elsewhere, everyone.bridge.student_joints) < 1
    assert set(split(crowd, limit=5).boxes.image_id.tolist()) == chosen  # the same again


def test_persons_that_the_protocol_ignores_stay_ignored(crowd, tmp_path):
    """CrowdPose's count of 0 is of joints 0-11; a labelled head alone does not make it more."""
    content = json.loads((crowd / "annotations" / "crowdpose_test.json").read_text())
    ignored = content["annotations"][0]
    ignored["num_keypoints"] = 0
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(crowd / "images")
    (tmp_path / "annotations" / "crowdpose_test.json").write_text(json.dumps(content))
    train = (crowd / "annotations" / "crowdpose_trainval.json").read_text()
    (tmp_path / "annotations" / "crowdpose_trainval.json").write_text(train)
    seen = split(tmp_path)
    without = labels_as_results(crowd)[1:]
    assert seen.ap(without, seen.bridge.student_joints) == pytest.approx(1.0)
    assert split(crowd).ap(without, seen.bridge.student_joints) < 1


def test_conditions_are_plain_and_tell_of_the_joints(crowd):
    conditions = split(crowd).conditions()
    assert json.loads(json.dumps(conditions)) == conditions
    assert conditions["joints"] == list(CROWDPOSE.joints[:12])
    assert len(conditions["annotations_sha256"]) == 64
    assert conditions["boxes_sha256"] is None
