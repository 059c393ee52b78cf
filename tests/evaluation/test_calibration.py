"""Scores that are probabilities: against a slow fit, by hand, and on what they are measured on."""

import math

import numpy as np
import pytest
import torch

from kdpose.checkpoints.load import load_net
from kdpose.evaluation.calibration import (
    ScoredJoints,
    calibrate,
    curve,
    fit,
    save_curve,
    scored_joints,
    within_reach,
)
from kdpose.types import Pose


def drawn(count, slope, offset, seed=0):
    """Joints that are within reach as often as the two numbers say."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.001, 0.08, count)
    return ScoredJoints(scores, rng.random(count) < calibrate(scores, slope, offset))


def test_the_fit_finds_what_the_joints_were_drawn_from():
    slope, offset = fit(drawn(200_000, 1.7, 6.0))
    assert slope == pytest.approx(1.7, abs=0.03)
    assert offset == pytest.approx(6.0, abs=0.1)


def test_no_other_numbers_are_likelier():
    joints = drawn(500, 1.2, 4.0)
    best = fit(joints)

    def loss(slope, offset):
        p = calibrate(joints.scores, slope, offset)
        return -(np.log(p) * joints.right + np.log(1 - p) * ~joints.right).mean()

    for step in (0.05, -0.05):
        assert loss(best[0] + step, best[1]) > loss(*best)
        assert loss(best[0], best[1] + step) > loss(*best)


def test_without_both_kinds_there_is_nothing_to_fit():
    with pytest.raises(ValueError, match="3 of 3 joints are within reach"):
        fit(ScoredJoints(np.full(3, 0.1), np.ones(3, bool)))


def test_reach_by_hand():
    """At sigma 0.1 and area 100 a similarity of 0.5 is sqrt(2 ln 2 * 100 * 0.04) = 2.3548 px."""
    reach = math.sqrt(2 * math.log(2) * 100 * 0.04)
    joints = np.array([[[reach - 0.001, 0.0], [0.0, reach + 0.001]]])
    found = within_reach(joints, np.zeros((1, 2, 2)), np.array([100.0]), (0.1, 0.1))
    assert found.tolist() == [[True, False]]


def test_the_curve_has_every_joint_once():
    joints = ScoredJoints(np.array([0.1, 0.9, 0.3, 0.7]), np.array([False, True, False, True]))
    score, share, count = curve(joints, bins=2)
    np.testing.assert_allclose(score, [0.2, 0.8])
    assert share.tolist() == [0, 1]
    assert count.tolist() == [2, 2]


@pytest.mark.parametrize("kind", ["student", "refined"])
def test_the_network_computes_the_same(kind, tiny_checkpoints, crowd, tmp_path):
    loaded = load_net(tiny_checkpoints[kind])
    net = loaded.net
    student = getattr(net, "student", net)
    data = (str(crowd / "annotations/crowdpose_test.json"), str(crowd / "images"))
    before = scored_joints(loaded, *data, num_workers=0, device="cpu")
    student.calibration = (1.5, 3.0)
    after = scored_joints(loaded, *data, num_workers=0, device="cpu")
    np.testing.assert_allclose(after.scores, calibrate(before.scores, 1.5, 3.0), rtol=1e-5)
    np.testing.assert_array_equal(after.right, before.right)
    save_curve(after, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 5000


def test_the_refiner_sees_the_codecs_scores(tiny_checkpoints):
    """It was trained on them: calibration moves no joint."""
    net = load_net(tiny_checkpoints["refined"]).net
    image = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    with torch.inference_mode():
        plain = net.pose(image, flip=True)
        net.student.calibration = (2.0, 1.0)
        calibrated = net.pose(image, flip=True)
    torch.testing.assert_close(calibrated.joints, plain.joints, rtol=0, atol=0)
    assert (calibrated.scores != plain.scores).any()
    assert isinstance(calibrated, Pose)
