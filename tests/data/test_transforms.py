import math

import numpy as np
import pytest

from kdpose.data.transforms import (
    CropPlan,
    box_region,
    crop_matrix,
    fit_aspect,
    inverse_affine,
    warp,
    warp_joints,
)

SIZE = (48, 64)


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
