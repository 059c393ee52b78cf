import json
import sys

import numpy as np
import pytest

import kdpose.sigmas
from kdpose.data.annotations import Persons, load_persons
from kdpose.evaluation.sigmas import estimate_sigmas, pair_persons, with_estimates
from kdpose.skeletons.files import read_skeleton
from kdpose.skeletons.known import COCO
from kdpose.skeletons.skeleton import Skeleton

CAT = Skeleton("cat", ("nose", "tail", "paw"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))


def persons(joints, boxes, files, visible=None):
    count = len(joints)
    return Persons(
        files=np.array(files),
        image_id=np.arange(count),
        image_size=np.full((count, 2), 1000, np.float32),
        box=np.array(boxes, np.float32),
        box_score=np.ones(count, np.float32),
        joints=np.array(joints, np.float32),
        visible=np.full((count, joints.shape[1]), 2.0) if visible is None else visible,
    )


def repeated(rng, sigmas, count=4000, people=2):
    """Labels around true joints, scattered so that E[d^2 / s^2] is sigma^2."""
    sizes = rng.uniform(50, 200, count)
    boxes = np.column_stack([np.full((count, 2), 100.0), sizes, 2 * sizes])
    scale = np.sqrt(0.53 * 2) * sizes
    truth = 100 + rng.random((count, len(sigmas), 2)) * sizes[:, None, None]
    spread = np.array(sigmas)[None, :, None] * scale[:, None, None] / np.sqrt(2)  # of each axis
    files = [f"{n}.jpg" for n in range(count)]
    return [persons(rng.normal(truth, spread), boxes, files) for _ in range(people)]


@pytest.mark.parametrize("people", [2, 3])
def test_known_scatter_is_recovered(people):
    sigmas = (0.026, 0.079, 0.107)
    found, count = estimate_sigmas(repeated(np.random.default_rng(0), sigmas, people=people), 3)
    np.testing.assert_allclose(found, sigmas, rtol=0.03)
    assert count.tolist() == [4000 * people * (people - 1) // 2] * 3


def test_by_hand():
    box = [[0, 0, 100, 100]]
    first = persons(np.array([[[10.0, 10], [50, 50]]]), box, ["a.jpg"])
    second = persons(
        np.array([[[13.0, 14], [90, 90]]]), box, ["a.jpg"], visible=np.array([[2.0, 0]])
    )
    found, count = estimate_sigmas([first, second], 2)
    assert found[0] == pytest.approx(np.sqrt(25 / 2 / 5300))
    assert np.isnan(found[1])
    assert count.tolist() == [1, 0]


def test_persons_are_paired_by_image_and_overlap():
    joints = np.zeros((3, 1, 2))
    boxes = [[0, 0, 10, 10], [50, 0, 10, 10], [0, 0, 10, 10]]
    one = persons(joints, boxes, ["a.jpg", "a.jpg", "b.jpg"])
    moved = [[51, 0, 10, 10], [1, 1, 10, 10], [5, 5, 10, 10]]
    a, b = pair_persons(one, persons(joints, moved, ["a.jpg", "a.jpg", "b.jpg"]))
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 1), (1, 0)]  # b.jpg: IoU 0.14


def test_few_pairs_keep_the_default():
    made = with_estimates(CAT, np.array([0.05, 0.2, np.nan]), np.array([50, 9, 0]))
    assert made.sigmas == (0.05, 0.079, 0.079)
    assert made.sigma_source == "estimated"
    with pytest.raises(ValueError, match="no joint was labelled 10 times by two people, at most 9"):
        with_estimates(CAT, np.array([0.05, 0.2, 0.1]), np.array([3, 9, 0]))
    with pytest.raises(ValueError, match="all labels of 'nose' agree exactly"):
        with_estimates(CAT, np.array([0.0, 0.2, 0.1]), np.array([30, 30, 30]))


def test_command(real_data, tmp_path, monkeypatch, capsys):
    """COCO's own labels against the same, each joint moved by 0.05 s to some side."""
    path = real_data / "coco_mini" / "annotations" / "person_keypoints_train2017.json"
    data, rng = json.loads(path.read_text()), np.random.default_rng(0)
    for person in data["annotations"]:
        reach = 0.05 * np.sqrt(0.53 * person["bbox"][2] * person["bbox"][3])
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        angle = rng.uniform(0, 2 * np.pi, len(points))
        points[:, :2] += reach * np.column_stack([np.cos(angle), np.sin(angle)])
        person["keypoints"] = points.ravel().tolist()
    (tmp_path / "b.json").write_text(json.dumps(data))
    words = [f"annotations=[{path},{tmp_path}/b.json]", f"out={tmp_path}/s.yaml"]
    monkeypatch.setattr(sys, "argv", ["kdpose.sigmas", *words])
    kdpose.sigmas.main()
    assert "left_shoulder" in capsys.readouterr().out
    made = read_skeleton(tmp_path / "s.yaml")
    assert made.joints == COCO.joints
    assert made.sigma_source == "estimated"
    # both files' boxes are cleaned of a pixel, hence a little more than 0.05 / sqrt(2)
    assert len(load_persons(path, made)) == 86
    np.testing.assert_allclose(made.sigmas, 0.05 / np.sqrt(2), rtol=0.03)
