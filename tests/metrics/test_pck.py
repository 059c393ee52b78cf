import numpy as np
import pytest

from kdpose.metrics.pck import torso_pck
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

K = len(CROWDPOSE)


def person():
    """A torso of 50 pixels: left shoulder at the origin, right hip at (30, 40)."""
    joints = np.zeros((1, K, 2))
    joints[0, CROWDPOSE.joints.index("right_hip")] = (30, 40)
    return joints, np.full((1, K), 2.0)


def test_by_hand():
    joints, visible = person()
    found = joints.copy()
    found[0, 2] += (10, 0)  # a fifth of the torso: still found
    found[0, 3] += (0, 10.1)  # not found
    found[0, 4] += (80, 0)  # not found, and not labelled either
    visible[0, 4] = 0
    share, persons = torso_pck(found, joints, visible, CROWDPOSE)
    assert share == pytest.approx((K - 2) / (K - 1))
    assert persons == 1
    assert torso_pck(found, joints, visible, CROWDPOSE, fraction=0.3)[0] == 1


def test_a_person_without_a_pose_found_nothing():
    joints, visible = person()
    twice, labels = np.concatenate([joints, joints]), np.concatenate([visible, visible])
    found = twice.copy()
    found[1] = np.nan
    assert torso_pck(found, twice, labels, CROWDPOSE) == (0.5, 2)


def test_persons_without_a_torso_are_left_out():
    joints, visible = person()
    twice, labels = np.concatenate([joints, joints]), np.concatenate([visible, visible])
    labels[1, CROWDPOSE.joints.index("left_shoulder")] = 0
    found = twice + np.array([0, 99])[:, None, None]  # the second pose is far off
    assert torso_pck(found, twice, labels, CROWDPOSE) == (1.0, 1)
    assert torso_pck(found[1:], twice[1:], labels[1:], CROWDPOSE) is None


def test_needs_shoulder_and_hip():
    hand = Skeleton("hand", ("thumb", "wrist"), ((0, 1),), (0.1, 0.1))
    assert torso_pck(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), np.ones((1, 2)), hand) is None
    rng = np.random.default_rng(0)
    joints = rng.uniform(0, 100, (3, 17, 2))
    assert torso_pck(joints, joints, np.ones((3, 17)), COCO) == (1.0, 3)
