"""OKS against COCO's own evaluator, and the guess of one who does not look."""

import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from kdpose.metrics.oks import best_boxes, mean_pose, person_oks
from kdpose.skeletons.known import COCO


def persons(count, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (count, 17, 2))
    visible = rng.integers(0, 3, (count, 17)).astype(float)
    visible[:, 0] = 2  # COCO's evaluator measures unlabelled persons by their box
    area = rng.uniform(500, 5000, count)
    return truth + rng.normal(0, 8, truth.shape), truth, visible, area


def test_it_is_cocos():
    joints, truth, visible, area = persons(6)
    truth[visible == 0] = 0
    annotations = [
        {
            "id": n + 1,
            "image_id": n,
            "category_id": 1,
            "keypoints": np.column_stack([truth[n], visible[n]]).ravel().tolist(),
            "num_keypoints": int((visible[n] > 0).sum()),
            "area": float(area[n]),
            "bbox": [0.0, 0.0, 100.0, 100.0],
            "iscrowd": 0,
        }
        for n in range(6)
    ]
    file = CocoFile()
    file.dataset = {
        "images": [{"id": n} for n in range(6)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    file.createIndex()
    results = [
        {
            "image_id": n,
            "category_id": 1,
            "keypoints": np.column_stack([joints[n], np.ones(17)]).ravel().tolist(),
            "score": 1.0,
        }
        for n in range(6)
    ]
    evaluator = COCOeval(file, file.loadRes(results), "keypoints")
    evaluator._prepare()
    theirs = [evaluator.computeOks(n, 1)[0, 0] for n in range(6)]
    ours = person_oks(joints, truth, visible, area, COCO.sigmas)
    assert 0.01 < min(theirs) < max(theirs) < 0.99
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_by_hand():
    truth = np.zeros((3, 2, 2))
    joints = truth.copy()
    joints[:, 0, 0] = 10.0  # d^2 / (2 area (2 sigma)^2) = 100 / (2 * 1250 * 0.04) = 1
    visible = np.array([[2, 0], [1, 2], [0, 0]])
    oks = person_oks(joints, truth, visible, np.full(3, 1250.0), (0.1, 0.1))
    np.testing.assert_allclose(oks, [np.exp(-1), (np.exp(-1) + 1) / 2, np.nan], rtol=1e-12)


def test_shapes_that_do_not_fit_are_refused():
    joints, truth, visible, area = persons(2)
    with pytest.raises(ValueError, match=r"got \(2, 17, 2\), \(2, 17, 2\), 2 areas and 14 sigmas"):
        person_oks(joints, truth, visible, area, (0.1,) * 14)


def test_mean_pose_is_the_mean_of_labelled_joints_in_box_shares():
    box = np.array([[10, 20, 40, 80], [0, 0, 10, 10]], dtype=np.float32)
    joints = np.array(
        [[[20, 40], [30, 60], [999, 999]], [[5, 5], [999, 999], [999, 999]]], dtype=np.float32
    )
    visible = np.array([[2, 1, 0], [2, 0, 0]])
    np.testing.assert_allclose(
        mean_pose(joints, visible, box), [[0.375, 0.375], [0.5, 0.5], [0.5, 0.5]]
    )


def test_no_other_constant_pose_is_nearer_to_the_labels():
    joints, _, visible, _ = persons(30)
    box = np.tile(np.float32([[0, 0, 100, 100]]), (30, 1))

    def error(pose):
        return (((joints / 100 - pose) ** 2).sum(-1) * (visible > 0)).sum()

    best = mean_pose(joints, visible, box)
    rng = np.random.default_rng(1)
    assert all(error(best) < error(best + rng.normal(0, 0.05, best.shape)) for _ in range(20))


def test_each_person_gets_the_box_that_overlaps_it_most_in_its_own_image():
    truth = np.float32([[0, 0, 10, 10], [20, 0, 10, 10], [0, 0, 10, 10], [50, 50, 5, 5]])
    truth_image = np.array([7, 7, 8, 7])
    boxes = np.float32([[0, 0, 10, 10], [18, 0, 10, 10], [3, 0, 10, 10], [1, 0, 10, 10]])
    image = np.array([7, 7, 7, 8])
    persons, rows = best_boxes(truth, truth_image, boxes, image)
    assert dict(zip(persons.tolist(), rows.tolist(), strict=True)) == {0: 0, 1: 1, 2: 3}


def test_boxes_of_images_without_persons_pair_with_nobody():
    persons, rows = best_boxes(
        np.zeros((0, 4), np.float32), np.zeros(0, int), np.float32([[0, 0, 1, 1]]), np.array([3])
    )
    assert len(persons) == len(rows) == 0
