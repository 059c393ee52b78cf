import math

import numpy as np
import pytest

from kdpose.metrics.rescoring import image_joints, instance_scores, oks_nms
from kdpose.skeletons.known import COCO, CROWDPOSE


@pytest.mark.parametrize("persons", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_image_joints_inverts_the_crop(persons, joints):
    rng = np.random.default_rng(0)
    width, height = 192, 256
    center = rng.uniform(0, 500, (persons, 2))
    size = rng.uniform(50, 400, (persons, 2))
    image = rng.uniform(0, 500, (persons, joints, 2))
    crop = np.empty_like(image)
    for n in range(persons):
        for k in range(joints):
            for axis, extent in enumerate((width, height)):
                offset = image[n, k, axis] - center[n, axis]
                crop[n, k, axis] = offset * width / size[n, 0] + extent / 2
    back = image_joints(crop, center, size, (width, height))
    np.testing.assert_allclose(back, image, atol=1e-9)


def test_image_joints_by_hand():
    # The crop's corner lies half a region left of and above the centre: 96 and 128 px at scale 2.
    joints = np.array([[[0.0, 0.0], [96.0, 128.0]]])
    out = image_joints(joints, np.array([[300.0, 400.0]]), np.array([[384.0, 512.0]]), (192, 256))
    np.testing.assert_allclose(out, [[[108.0, 144.0], [300.0, 400.0]]])


def test_instance_scores_by_hand():
    joint_scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.1, 0.0], [1.0, 1.0, 1.0]])
    scores = instance_scores(joint_scores, np.array([0.5, 1.0, 0.25]), threshold=0.2)
    np.testing.assert_allclose(scores, [0.5 * 0.7, 0.0, 0.25])  # 0.2 itself does not pass


def test_instance_scores_equal_slow_loop():
    rng = np.random.default_rng(2)
    joint_scores, boxes = rng.random((200, 17)) ** 4, rng.random(200)
    for threshold in (0.01, 0.2, 0.99):
        slow = []
        for scores, box in zip(joint_scores, boxes, strict=True):
            passing = [score for score in scores if score > threshold]
            slow.append(box * sum(passing) / len(passing) if passing else 0.0)
        got = instance_scores(joint_scores, boxes, threshold)
        np.testing.assert_allclose(got, slow, rtol=1e-12)
        assert 0 < np.count_nonzero(slow) <= 200


def test_instance_scores_of_nobody():
    assert instance_scores(np.zeros((0, 1)), np.zeros(0)).shape == (0,)


def slow_nms(keypoints, scores, areas, sigmas, threshold):
    def oks(a, b):
        total = 0.0
        for k, sigma in enumerate(sigmas):
            squared = sum((keypoints[a][k][axis] - keypoints[b][k][axis]) ** 2 for axis in (0, 1))
            total += math.exp(-squared / (2 * sigma) ** 2 / ((areas[a] + areas[b]) / 2) / 2)
        return total / len(sigmas)

    kept = []
    for person in sorted(range(len(scores)), key=lambda n: -scores[n]):
        if all(oks(person, better) <= threshold for better in kept):
            kept.append(person)
    return kept


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE])
@pytest.mark.parametrize("threshold", [0.5, 0.9])
def test_oks_nms_equals_slow_loop(skeleton, threshold):
    rng = np.random.default_rng(1)
    suppressed = 0
    for _ in range(20):
        bodies = rng.uniform(0, 200, (4, len(skeleton), 2))[rng.integers(0, 4, 12)]
        keypoints = bodies + rng.normal(0, 1, bodies.shape) * rng.uniform(0, 12, (12, 1, 1))
        scores = rng.choice([0.2, 0.4, 0.6, 0.8], 12)
        areas = rng.uniform(2000, 9000, 12)
        kept = oks_nms(keypoints, scores, areas, skeleton.sigmas, threshold)
        assert kept == slow_nms(keypoints, scores, areas, skeleton.sigmas, threshold)
        suppressed += 12 - len(kept)
    assert 0 < suppressed < 20 * 11


def test_oks_nms_at_the_threshold_keeps():
    # One joint, sigma 0.5, area 1: OKS = exp(-d^2 / 2).
    keypoints = np.array([[[0.0, 0.0]], [[1.0, 0.0]]])
    oks = math.exp(-0.5)
    arguments = (keypoints, np.array([0.5, 1.0]), np.ones(2), [0.5])
    assert oks_nms(*arguments, threshold=oks + 1e-9) == [1, 0]
    assert oks_nms(*arguments, threshold=oks - 1e-9) == [1]


def test_oks_nms_of_nobody_and_of_points():
    assert oks_nms(np.zeros((0, 17, 2)), np.zeros(0), np.zeros(0), COCO.sigmas) == []
    twins = np.zeros((2, 17, 2))
    assert oks_nms(twins, np.ones(2), np.zeros(2), COCO.sigmas) == [0]
