import numpy as np
import pytest

from kdpose.data.synthetic.people import (
    ARMS,
    BONES,
    LEGS,
    Cloth,
    Part,
    draw_figure,
    paint,
    pose_body,
)

RED, BLUE = np.array([200.0, 0.0, 0.0]), np.array([0.0, 0.0, 200.0])
CHAINS = {
    "arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "hand": ("wrist", "hand"),
    "thigh": ("hip", "knee"),
    "shank": ("knee", "ankle"),
    "foot": ("ankle", "toe"),
}


def capsule(start, end, first, last, **rest):
    ends, radii = np.array([[start, end]], float), np.array([[first, last]], float)
    return Part(0.0, ends, radii, Cloth(RED, BLUE), **rest)


def bodies(count=200):
    return [pose_body(np.random.default_rng(seed)).points for seed in range(count)]


def angle(u, v):
    return np.degrees(np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1, 1)))


def test_limbs_keep_their_length_and_both_sides_agree():
    for points in bodies():
        for bone, (a, b) in CHAINS.items():
            left = np.linalg.norm(points[f"left_{a}"] - points[f"left_{b}"])
            right = np.linalg.norm(points[f"right_{a}"] - points[f"right_{b}"])
            assert left == pytest.approx(right)
            assert 0.92 * BONES[bone] <= left <= 1.08 * BONES[bone]


def test_knees_and_elbows_bend_one_way_within_their_limits():
    most_knee = max(limits[3][1] for limits in LEGS.values())
    most_elbow = max(limits[3][1] for limits in ARMS.values())
    knees, elbows = [], []
    for points in bodies():
        for side in ("left", "right"):
            hip, knee, ankle, shoulder, elbow, wrist = (
                points[f"{side}_{name}"]
                for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
            )
            knees.append(angle(knee - hip, ankle - knee))
            elbows.append(angle(elbow - shoulder, wrist - elbow))
            assert np.cross(knee - hip, ankle - knee)[0] >= -1e-9  # the heel goes back
    assert 90 < max(knees) <= most_knee
    assert 100 < max(elbows) <= most_elbow


def test_left_is_left_seen_from_within_the_body():
    for points in bodies():
        across = points["left_shoulder"] - points["right_shoulder"]
        assert across[0] > 0
        assert points["left_hip"][0] > 0 > points["right_hip"][0]
        assert np.linalg.norm(points["head"] - points["neck"]) > 0.15


def test_figure_stands_on_the_origin_and_moves():
    figure = draw_figure(np.random.default_rng(3), 120.0)
    assert figure.joints.shape == (14, 2)
    assert figure.joints[:, 1].max() == pytest.approx(0)
    assert figure.joints[:, 0].mean() == pytest.approx(0)
    assert [p.depth for p in figure.parts] == sorted(p.depth for p in figure.parts)
    moved = figure.moved(np.array([10.0, -4.0]))
    np.testing.assert_allclose(moved.joints - figure.joints, np.tile([10.0, -4.0], (14, 1)))
    np.testing.assert_allclose(moved.bounds() - figure.bounds(), [10, -4, 10, -4])


def test_bounds_enclose_every_joint():
    for seed in range(50):
        figure = draw_figure(np.random.default_rng(seed), 100.0)
        x1, y1, x2, y2 = figure.bounds()
        assert (figure.joints >= [x1, y1]).all()
        assert (figure.joints <= [x2, y2]).all()


def test_eyes_show_from_the_front_only():
    front, back = [], []
    for seed in range(200):
        figure = draw_figure(np.random.default_rng(seed), 1.0)
        left, right, head, neck = figure.joints[[0, 1, 12, 13]]
        (ux, uy), (ax, ay) = head - neck, left - right
        facing = ux * ay - uy * ax  # > 0: the left shoulder lies to the right of an upright neck
        eyes = next(p for p in figure.parts if len(p.ends) == 2)
        r = eyes.radii[0, 0] / 0.13
        hair = next(p for p in figure.parts if np.allclose(p.radii, [[r, 0.85 * r]]))
        if abs(facing) > 0.025:
            (front if facing > 0 else back).append(eyes.depth > hair.depth)
    assert len(front) > 40
    assert len(back) > 40
    assert np.mean(front) > 0.95
    assert np.mean(back) < 0.05


def test_paint_covers_what_a_slow_reference_covers():
    start, end, first, last = np.array([8.3, 9.1]), np.array([25.7, 20.2]), 3.0, 6.5
    canvas = np.zeros((32, 40, 3), np.float32)
    window, covered = paint(canvas, capsule(start, end, first, last), np.zeros(2))
    got = np.zeros((32, 40), bool)
    got[window] = covered
    for row in range(32):
        for column in range(40):
            point = np.array([column, row])
            share = np.clip((point - start) @ (end - start) / np.sum((end - start) ** 2), 0, 1)
            gap = np.linalg.norm(point - start - share * (end - start))
            assert got[row, column] == (gap < first + share * (last - first))
    assert (canvas[got] @ [1, 0, 0] > 50).all()
    assert canvas[got][:, 1:].max() == 0


def test_paint_of_a_disc_has_its_area():
    canvas = np.zeros((40, 40, 3), np.float32)
    _, covered = paint(canvas, capsule((20.2, 19.6), (20.2, 19.6), 12, 12), np.zeros(2))
    assert covered.sum() == pytest.approx(np.pi * 12**2, rel=0.02)


@pytest.mark.parametrize("at", [(-30, 10), (10, -30), (70, 10), (10, 70)])
def test_paint_beside_the_picture_changes_nothing(at):
    canvas = np.full((20, 24, 3), 7, np.float32)
    _, covered = paint(canvas, capsule(at, at, 5, 5), np.zeros(2))
    assert not covered.any()
    assert (canvas == 7).all()


def test_paint_cuts_off_at_the_border():
    canvas = np.zeros((20, 24, 3), np.float32)
    window, covered = paint(canvas, capsule((-2, 10), (26, 10), 3, 3), np.zeros(2))
    assert covered.shape == canvas[window].shape[:2]
    assert covered[:, 0].sum() == covered[:, -1].sum() == 5


def test_sleeve_ends_at_the_cut_and_pattern_alternates():
    skin = Cloth(BLUE, BLUE)
    canvas = np.zeros((20, 40, 3), np.float32)
    paint(canvas, capsule((5, 10), (35, 10), 4, 4, below=skin, cut=0.5), np.zeros(2))
    assert canvas[10, 15, 0] > 100 > canvas[10, 15, 2]
    assert canvas[10, 25, 2] > 100 > canvas[10, 25, 0]
    part = capsule((5, 10), (35, 10), 4, 4)
    paint(canvas, part._replace(cloth=Cloth(RED, BLUE, 1, 10.0)), np.zeros(2))
    is_red = canvas[10, 6:35, 0] > canvas[10, 6:35, 2]
    assert np.abs(np.diff(is_red.astype(int))).sum() == 5  # 30 pixels, a change every 5


def test_light_brightens_the_side_it_comes_from():
    canvas = np.zeros((30, 30, 3), np.float32)
    paint(canvas, capsule((15, 15), (15, 15), 10, 10), np.array([0.8, 0.0]))
    assert canvas[15, 22, 0] > canvas[15, 8, 0] + 20
