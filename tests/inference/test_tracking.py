import numpy as np
import pytest

pytest.importorskip("edgefirst.tracker", reason="the extra kdpose[video] is not installed")

from kdpose.display.drawing import PERSON_COLORS
from kdpose.inference.poses import ImagePoses
from kdpose.inference.tracking import Smoother, Tracker, follow, track_colors
from kdpose.inference.video import Frame
from kdpose.skeletons.skeleton import Skeleton

ENDS = Skeleton("ends", ("top", "bottom"), ((0, 1),), (0.1,) * 2)
RATE = 10.0


def walk(frame, start, step):
    return [start + step * frame, 50.0, 40.0, 120.0]


def run(tracker, visible, frames):
    """Identities of persons A (to the right) and B (to the left); None where one is not there."""
    seen = []
    for frame in range(frames):
        boxes = {"a": walk(frame, 0, 5), "b": walk(frame, 400, -4)}
        there = [name for name in ("b", "a") if visible(name, frame)]
        rows = np.array([boxes[name] for name in there], np.float32).reshape(-1, 4)
        found = tracker(rows, np.full(len(there), 0.9, np.float32))
        seen.append(dict(zip(there, found.tolist(), strict=True)))
    return seen


def identities(seen, name):
    return [frame[name] for frame in seen if name in frame and frame[name] >= 0]


def test_two_persons_keep_their_identities():
    seen = run(Tracker(RATE), lambda name, frame: True, 30)
    assert [len(identities(seen, name)) for name in "ab"] == [30, 30]  # from the first frame on
    a, b = set(identities(seen, "a")), set(identities(seen, "b"))
    assert (len(a), len(b)) == (1, 1)
    assert a != b


def test_who_comes_later_has_no_identity_until_seen_twice():
    seen = run(Tracker(RATE), lambda name, frame: name == "a" or frame >= 3, 6)
    assert [frame.get("b") for frame in seen] == [None, None, None, -1, 1, 1]
    empty_first = run(Tracker(RATE), lambda name, frame: frame >= 1, 4)
    assert [frame.get("a") for frame in empty_first] == [None, -1, 1, 1]


def test_who_is_unseen_after_the_first_frame_keeps_its_identity():
    seen = run(Tracker(RATE), lambda name, frame: name == "b" or not 1 <= frame < 4, 10)
    assert set(identities(seen, "a")) == {seen[0]["a"]} != {-1}


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    def gone(first, last):
        return lambda name, frame: name == "b" or not first <= frame < last

    short = identities(run(Tracker(RATE, gap=1.0), gone(10, 15), 30), "a")
    assert len(set(short)) == 1
    assert len(short) >= 23
    long = identities(run(Tracker(RATE, gap=1.0), gone(10, 25), 40), "a")
    assert len(set(long)) == 2


def test_entering_leaving_and_empty_frames():
    def visible(name, frame):
        return (name == "a" and frame < 12) or (name == "b" and 8 <= frame < 20) or frame >= 60

    seen = run(Tracker(RATE), visible, 80)
    assert [len(frame) for frame in seen[20:60]] == [0] * 40
    assert set(identities(seen[:12], "a")).isdisjoint(identities(seen, "b"))
    later = identities(seen[60:], "a")
    assert len(set(later)) == 1
    assert set(later).isdisjoint(identities(seen[:20], "a"))  # 6 s later nobody knows


def test_weak_boxes_begin_no_track():
    tracker = Tracker(RATE, threshold=0.5)
    for frame in range(5):
        box = np.array([walk(frame, 0, 5)], np.float32)
        assert tracker(box, np.array([0.4], np.float32)).tolist() == [-1]


def poses(joints):
    joints = np.array(joints, np.float32)
    box = np.array([[0, 0, 30, 40]], np.float32).repeat(len(joints), 0)
    image = np.zeros((4, 4, 3), np.uint8)
    ones = np.ones(len(joints), np.float32)
    return ImagePoses(joints, ones[:, None].repeat(2, 1), box, ones, ENDS, image)


def smoothed(values, **options):
    smooth = Smoother(RATE, **options)
    return np.array([
        smooth(poses([[[x, y], [x, y]]]), np.array([1]), i / RATE).keypoints[0, 0]
        for i, (x, y) in enumerate(values)
    ])  # fmt: skip


def one_euro(values, rate, cutoff, beta):
    """The filter as its paper writes it (Algorithm 1), with a derivative cutoff of 1 Hz."""

    def alpha(hertz):
        return 1 / (1 + rate / (2 * np.pi * hertz))

    x, dx, out = values[0], 0.0, [values[0]]
    for value in values[1:]:
        slope = alpha(1.0) * (value - x) * rate + (1 - alpha(1.0)) * dx
        a = alpha(cutoff + beta * abs(slope))
        x, dx = a * value + (1 - a) * x, slope
        out.append(x)
    return np.array(out)


def test_the_filter_is_the_papers_in_units_of_the_box():
    rng = np.random.default_rng(0)
    values = 100 + np.cumsum(rng.normal(0, 3, (40, 2)), 0)
    found = smoothed(values, cutoff=1.5, beta=5.0)
    for axis in (0, 1):  # the box is 30 x 40: its diagonal is 50 pixels
        expected = 50 * one_euro(values[:, axis] / 50, RATE, 1.5, 5.0)
        np.testing.assert_allclose(found[:, axis], expected, rtol=1e-4)


def test_jitter_goes_and_movement_stays():
    rng = np.random.default_rng(0)
    still = 100 + rng.normal(0, 0.5, (200, 2))
    assert smoothed(still)[50:].std() < 0.75 * still[50:].std()
    moving = np.stack([np.arange(40) * 20.0, np.zeros(40)], 1)
    assert np.abs(smoothed(moving)[-1] - moving[-1]).max() < 6  # a third of a frame behind


def test_each_identity_has_its_own_filter_and_strangers_none():
    smooth = Smoother(RATE)
    near, far = [[0, 0], [1, 1]], [[500, 500], [501, 501]]
    for frame in range(3):
        found = smooth(poses([near, far]), np.array([1, 2]), frame / RATE)
        np.testing.assert_allclose(found.keypoints, [near, far], atol=1e-3)
    swapped = smooth(poses([far, near]), np.array([2, 1]), 0.3)
    np.testing.assert_allclose(swapped.keypoints, [far, near], atol=1e-3)
    stranger = smooth(poses([far]), np.array([-1]), 0.4)
    np.testing.assert_array_equal(stranger.keypoints, [far])


def test_filters_of_the_lost_are_forgotten():
    smooth = Smoother(RATE, gap=1.0)
    for identity in range(100):
        smooth(poses([[[0, 0], [1, 1]]]), np.array([identity]), float(identity))
    assert len(smooth._filters) <= 2
    back = smooth(poses([[[50, 50], [51, 51]]]), np.array([0]), 100.0)
    np.testing.assert_allclose(back.keypoints, [[[50, 50], [51, 51]]], atol=1e-3)


def test_colours_stay_with_the_identity():
    first, second, stranger = track_colors(np.array([3, 4, -1]))
    assert (first, second) == (PERSON_COLORS[3], PERSON_COLORS[4])
    assert stranger not in PERSON_COLORS
    assert track_colors(np.array([4, 3])) == [second, first]


def test_frames_of_a_file_share_batches_and_those_of_a_camera_do_not():
    class Answers:
        """Remembers how many frames it was given at once."""

        def __init__(self):
            self.sizes = []

        def stream(self, looks):
            looks = list(looks)
            self.sizes.append(len(looks))
            for frame, image, boxes, scores in looks:
                joints = np.zeros((len(boxes), 2, 2), np.float32)
                yield frame, ImagePoses(joints, joints[..., 0], boxes, scores, ENDS, image)

    def boxes(picture, number):
        return np.array([[number, 0, 5, 5]], np.float32), np.ones(1, np.float32)

    frames = [Frame(number, number / RATE, np.zeros((8, 8, 3), np.uint8)) for number in range(5)]
    for live, sizes in ((False, [5]), (True, [1] * 5)):
        predictor = Answers()
        found = list(follow(frames, predictor, boxes, None, None, live))
        assert predictor.sizes == sizes
        assert [frame.number for frame, _, _ in found] == list(range(5))
        assert [poses.boxes[0, 0] for _, poses, _ in found] == list(range(5))
