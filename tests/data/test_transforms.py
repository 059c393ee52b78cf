import math

import numpy as np
import pytest

from kdpose.data.transforms import (
    Augmentation,
    CropPlan,
    Draws,
    augmented,
    box_region,
    crop_matrix,
    draw,
    fit_aspect,
    half_body_region,
    inverse_affine,
    warp,
    warp_joints,
)
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

SIZE = (48, 64)
BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])


def array(*values):
    return np.array(values, dtype=np.float32)


def random_plan(rng, flip=None):
    width = rng.uniform(20, 60)
    return CropPlan(
        center=rng.uniform(10, 50, 2).astype(np.float32),
        size=array(width, width / 0.75),
        degrees=float(rng.uniform(-90, 90)),
        flip=bool(rng.random() < 0.5) if flip is None else flip,
    )


def three_point_matrix(center, size, input_size, degrees):
    """HRNet's affine: three image points and where they go, solved for the six numbers."""

    def third(a, b):
        return b + np.array([-(a - b)[1], (a - b)[0]])

    angle = math.radians(degrees)
    up = np.array([math.sin(angle), -math.cos(angle)]) * size[0] / 2  # R(angle) (0, -w / 2)
    c = np.array(center, dtype=np.float64)
    w, h = input_size
    middle, top = np.array([w / 2, h / 2]), np.array([w / 2, h / 2 - w / 2])
    sources = [c, c + up, third(c, c + up)]
    targets = [middle, top, third(middle, top)]
    return np.linalg.solve([[*p, 1] for p in sources], targets).T


def slow_warp(pixels, matrix, size):
    """For every crop pixel the image's value there, interpolated, with zeros around the image."""
    rows, columns = pixels.shape[:2]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    crop = np.zeros((size[1], size[0], *pixels.shape[2:]))
    for v in range(size[1]):
        for u in range(size[0]):
            x, y, _ = inverse @ [u, v, 1]
            left, top = math.floor(x), math.floor(y)
            for i, j, share in (
                (left, top, (left + 1 - x) * (top + 1 - y)),
                (left + 1, top, (x - left) * (top + 1 - y)),
                (left, top + 1, (left + 1 - x) * (y - top)),
                (left + 1, top + 1, (x - left) * (y - top)),
            ):
                if 0 <= i < columns and 0 <= j < rows:
                    crop[v, u] += share * pixels[j, i]
    return crop


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


@pytest.mark.parametrize(
    ("box", "center", "size"),
    [
        ((10, 20, 30, 40), (25, 40), (37.5, 50)),  # already 3:4
        ((0, 0, 60, 40), (30, 20), (75, 100)),  # wide: the height grows
        ((0, 0, 15, 40), (7.5, 20), (37.5, 50)),  # tall: the width grows
    ],
)
def test_box_region_by_hand(box, center, size):
    ours = box_region(array(*box), 0.75)
    np.testing.assert_allclose(ours[0], center)
    np.testing.assert_allclose(ours[1], size)
    assert ours[0].dtype == ours[1].dtype == np.float32
    np.testing.assert_allclose(fit_aspect(array(*box[2:]), 0.75, 1.0), np.array(size) / 1.25)


def test_matrix_is_the_three_point_construction():
    rng = np.random.default_rng(0)
    for _ in range(100):
        plan = random_plan(rng, flip=False)
        ours = crop_matrix(plan.center, plan.size, SIZE, plan.degrees)
        theirs = three_point_matrix(plan.center, plan.size, SIZE, plan.degrees)
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_matrix_by_hand():
    matrix = crop_matrix(array(30, 40), array(24, 32), SIZE)
    points = array((30, 40), (18, 24), (42, 40))
    np.testing.assert_allclose(warp_joints(points, matrix), [(24, 32), (0, 0), (48, 32)])
    quarter = crop_matrix(array(30, 40), array(48, 64), SIZE, 90)
    # the crop's upper side shows what lies to the right of the centre
    np.testing.assert_allclose(warp_joints(array((40, 40)), quarter), [(24, 22)], atol=1e-5)


def test_flip_is_hrnets_mirror_then_crop():
    rng = np.random.default_rng(1)
    joints = rng.uniform(0, 64, (14, 2)).astype(np.float32)
    for _ in range(20):
        plan = random_plan(rng, flip=True)
        seen = joints.copy()
        seen[:, 0] = 64 - joints[:, 0] - 1
        center = array(64 - plan.center[0] - 1, plan.center[1])
        matrix = three_point_matrix(center, plan.size, SIZE, plan.degrees)
        expected = warp_joints(seen, matrix)
        np.testing.assert_allclose(warp_joints(joints, plan.matrix(SIZE)), expected, atol=1e-4)


def test_matrices_of_many_are_those_of_each():
    plans = [random_plan(np.random.default_rng(seed)) for seed in range(20)]
    many = CropPlan(*(np.array(column) for column in zip(*plans, strict=True)))
    each = np.stack([plan.matrix(SIZE) for plan in plans])
    np.testing.assert_allclose(many.matrix(SIZE), each, atol=1e-12)
    points = np.random.default_rng(0).uniform(0, 64, (20, 14, 2)).astype(np.float32)
    there = warp_joints(points, each)
    np.testing.assert_allclose(there[3], warp_joints(points[3], each[3]), atol=1e-4)
    np.testing.assert_allclose(warp_joints(there, inverse_affine(each)), points, atol=1e-3)


def test_pixels_are_read_where_the_joints_say():
    """The pixels hold their own x (y); the library counts in steps of 1/32 pixel."""
    rng = np.random.default_rng(2)
    places = np.mgrid[0:70, 0:64].astype(np.float32)[::-1]
    errors = []
    for _ in range(20):
        plan = random_plan(rng)
        matrix = plan.matrix(SIZE)
        crops = [warp(plane, matrix, SIZE) for plane in places]
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
        v, u = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
        x, y = np.einsum("ij,jvu->ivu", inverse[:2], np.stack([u, v, np.ones_like(u)]))
        inside = (x >= 0) & (x <= 63) & (y >= 0) & (y <= 69)
        outside = (x < -1) | (x > 64) | (y < -1) | (y > 70)
        assert inside.sum() > 100
        for crop, place in zip(crops, (x, y), strict=True):
            error = (crop - place)[inside]
            assert np.abs(error).max() < 1 / 32
            errors.append(error.mean())
            assert not crop[outside].any()
    assert abs(np.mean(errors)) < 0.002  # no offset: a shift of the crop would be a bias


def test_colours_against_a_slow_warp():
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for _ in range(3):
        matrix = random_plan(rng).matrix((24, 32))
        crop = warp(pixels, matrix, (24, 32))
        assert crop.shape == (32, 24, 3)
        assert crop.dtype == np.uint8
        reference = slow_warp(pixels.astype(float), matrix, (24, 32))
        error = np.abs(crop - reference)
        assert error.max() <= 255 * 2 / 64 + 0.5  # noise, and steps of 1/32 pixel on both axes
        assert error.mean() < 1
        assert abs((crop - reference).mean()) < 0.1


def test_a_whole_image_is_copied():
    pixels = np.random.default_rng(4).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    matrix = crop_matrix(array(24, 32), array(48, 64), SIZE)
    np.testing.assert_array_equal(warp(pixels, matrix, SIZE), pixels)
    flipped = CropPlan(array(23, 32), array(48, 64), flip=True).matrix(SIZE)
    np.testing.assert_array_equal(warp(pixels, flipped, SIZE), pixels[:, ::-1])


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
