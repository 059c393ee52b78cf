"""Half bodies and the random augmentation of training views."""

import numpy as np
import pytest

from kdpose.data.transforms import Augmentation, CropPlan, Draws, augmented, draw, half_body_region
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])


def array(*values):
    return np.array(values, dtype=np.float32)


def slow_half_body(joints, visible, skeleton, aspect, normal):
    """HRNet's half body, joint by joint."""
    upper, lower = [], []
    for k in range(len(skeleton)):
        if visible[k] > 0:
            (upper if k in skeleton.upper_body else lower).append(joints[k])
    chosen = lower if len(lower) > 2 else upper
    if normal < 0.5 and len(upper) > 2:
        chosen = upper
    if len(chosen) < 2:
        return None
    center = sum(chosen) / len(chosen)
    w = max(p[0] for p in chosen) - min(p[0] for p in chosen)
    h = max(p[1] for p in chosen) - min(p[1] for p in chosen)
    if w > aspect * h:
        h = w / aspect
    else:
        w = h * aspect
    return center, np.array([w, h]) * 1.5


@BOTH
def test_half_body_against_a_slow_one(skeleton):
    rng = np.random.default_rng(5)
    counts = {"upper": 0, "lower": 0, "none": 0}
    for seed in range(300):
        joints = rng.uniform(0, 100, (len(skeleton), 2)).astype(np.float32)
        visible = rng.integers(0, 3, len(skeleton)) * (rng.random(len(skeleton)) < rng.random())
        normal = np.random.default_rng(seed).standard_normal()
        slow = slow_half_body(joints, visible, skeleton, 0.75, normal)
        ours = half_body_region(joints, visible, skeleton, 0.75, normal < 0.5)
        assert ours[2] == (slow is not None)
        if slow is None:
            counts["none"] += 1
            continue
        np.testing.assert_allclose(ours[0], slow[0], rtol=1e-4)
        np.testing.assert_allclose(ours[1], slow[1], rtol=1e-4)
        upper = [k for k in skeleton.upper_body if visible[k] > 0]
        is_upper = np.allclose(ours[0], joints[upper].mean(0) if upper else -1)
        counts["upper" if is_upper else "lower"] += 1
    assert min(counts.values()) > 10


def test_half_body_of_degenerate_persons():
    joints, seen = np.full((14, 2), 5, np.float32), np.ones(14, np.float32)
    assert not half_body_region(joints, seen, CROWDPOSE, 0.75, True)[2]  # all in one place
    skeleton = Skeleton("bare", ("a", "b", "c"), (), (0.1,) * 3)  # knows no upper body
    spread = array((0, 0), (9, 0), (0, 9))
    assert not half_body_region(spread, np.ones(3, np.float32), skeleton, 0.75, True)[2]


def views(skeleton, labelled, augmentation=None, count=3000):
    rng = np.random.default_rng(6)
    joints = rng.uniform(0, 100, (len(skeleton), 2)).astype(np.float32)
    visible = np.zeros(len(skeleton), np.float32)
    visible[:labelled] = 2
    plan = CropPlan(np.tile(array(50, 50), (count, 1)), np.tile(array(75, 100), (count, 1)))
    options = augmentation or Augmentation()
    repeated = np.tile(joints, (count, 1, 1)), np.tile(visible, (count, 1))
    return augmented(plan, *repeated, skeleton, options, draw(0, 0, count))


def test_a_rows_draws_depend_on_seed_epoch_and_row_alone():
    few, many = draw(1, 2, 10), draw(1, 2, 500)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:10])
    for other in (draw(2, 2, 500), draw(1, 3, 500)):
        assert abs(np.corrcoef(many.normal.ravel(), other.normal.ravel())[0, 1]) < 0.1
        assert abs(np.corrcoef(many.uniform.ravel(), other.uniform.ravel())[0, 1]) < 0.1
    assert isinstance(few, Draws)


@BOTH
def test_one_view_at_a_time_is_the_same_view(skeleton):
    rng = np.random.default_rng(7)
    plan = CropPlan(rng.uniform(0, 90, (50, 2)), np.tile(array(75, 100), (50, 1)))
    joints = rng.uniform(0, 100, (50, len(skeleton), 2)).astype(np.float32)
    visible = rng.integers(0, 3, (50, len(skeleton)))
    draws, options = draw(0, 0, 50), Augmentation(half_body_probability=0.8)
    together = augmented(plan, joints, visible, skeleton, options, draws)
    for i in range(50):
        alone = augmented(
            CropPlan(plan.center[i], plan.size[i]),
            joints[i],
            visible[i],
            skeleton,
            options,
            Draws(draws.uniform[i], draws.normal[i]),
        )
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, all_[i], rtol=1e-6)


@BOTH
def test_augmentation_has_hrnets_statistics(skeleton):
    plan = views(skeleton, 8)  # eight joints are too few for a half body
    factors = plan.size[:, 0] / 75
    assert (plan.center == 50).all()
    assert plan.size.dtype == np.float32
    assert factors.min() == pytest.approx(0.65)
    assert factors.max() == pytest.approx(1.35)
    assert np.mean((factors > 0.651) & (factors < 1.349)) == pytest.approx(0.683, abs=0.03)
    assert (plan.degrees != 0).mean() == pytest.approx(0.6, abs=0.03)
    assert (plan.degrees.min(), plan.degrees.max()) == (-90, 90)
    within = np.abs(plan.degrees[plan.degrees != 0])
    assert np.mean(within < 45) == pytest.approx(0.683, abs=0.03)
    assert np.mean(within == 90) == pytest.approx(0.0455, abs=0.015)
    assert np.mean(plan.flip) == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(plan.size[:, 0] / plan.size[:, 1], 0.75, rtol=1e-5)


@BOTH
def test_half_bodies_are_drawn_of_persons_with_many_joints(skeleton):
    halves = (views(skeleton, len(skeleton)).center != 50).any(-1)
    assert np.mean(halves) == pytest.approx(0.3, abs=0.03)
    nine = (views(skeleton, 9).center != 50).any(-1)
    assert np.mean(nine) == pytest.approx(0.3, abs=0.03)


def test_no_augmentation_is_the_plan_itself():
    plan = views(COCO, 17, Augmentation(0, 0, 0, 0, 0), count=20)
    np.testing.assert_array_equal(plan.center, np.tile([50, 50], (20, 1)))
    np.testing.assert_array_equal(plan.size, np.tile([75, 100], (20, 1)))
    assert not plan.degrees.any()
    assert not plan.flip.any()
