"""Two skeletons meet by the names of their joints."""

import pytest

from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton


def skeleton(*joints, limbs=(), name="mini"):
    return Skeleton(name, joints, limbs, (0.1,) * len(joints))


def test_coco_teaches_crowdposes_limbs_but_not_head_and_neck():
    bridge = SkeletonBridge.between(CROWDPOSE, COCO)
    # CrowdPose's first twelve joints are COCO's last twelve, in the same order
    assert bridge.student_joints == tuple(range(12))
    assert bridge.teacher_joints == tuple(range(5, 17))
    assert bridge.untaught == (12, 13)
    assert bridge.mask == (1.0,) * 12 + (0.0, 0.0)
    lost = set(CROWDPOSE.limbs) - set(bridge.shared_limbs)
    assert lost == {(12, 13), (1, 13), (0, 13)}  # those that end in head or neck


def test_the_other_way_round_is_the_inverse():
    there, back = SkeletonBridge.between(CROWDPOSE, COCO), SkeletonBridge.between(COCO, CROWDPOSE)
    assert (back.student_joints, back.teacher_joints) == (
        there.teacher_joints,
        there.student_joints,
    )
    assert back.untaught == (0, 1, 2, 3, 4)  # the face


@pytest.mark.parametrize("same", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
def test_equal_skeletons_are_whole(same):
    bridge = SkeletonBridge.between(same, same)
    assert bridge.student_joints == bridge.teacher_joints == tuple(range(len(same)))
    assert bridge.mask == (1.0,) * len(same)
    assert bridge.shared_limbs == same.limbs


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("left_ankle", "left_ankle"),
        ("L-Ankle", "left_ankle"),
        ("ankle left", "left_ankle"),
        ("r_heel_inner", "right_heel_inner"),
        ("Nose", "nose"),
        ("leftover_joint", "leftover_joint"),  # a side is a whole word
    ],
)
def test_spellings_of_one_joint(name, key):
    assert joint_key(name) == key


def test_another_order_and_spelling_is_the_same_body():
    ours = skeleton("left_hip", "right_hip", "nose", "tail")
    its = skeleton("Nose", "R Hip", "L-Hip", name="other")
    bridge = SkeletonBridge.between(ours, its)
    assert bridge.student_joints == (0, 1, 2)
    assert bridge.teacher_joints == (2, 1, 0)


def test_it_says_what_it_matched():
    ours = skeleton("left_hip", "right_hip", "nose", "tail", limbs=((0, 1), (2, 3)))
    its = skeleton("nose", "l_hip", "r_hip", name="other")
    assert str(SkeletonBridge.between(ours, its)) == (
        "3 of 4 joints and 1 of 2 limbs taught by 'other': "
        "left_hip<-l_hip right_hip<-r_hip nose; from labels: tail"
    )
    assert str(SkeletonBridge.between(its, ours)).endswith(
        "l_hip<-left_hip r_hip<-right_hip; from labels: none"
    )
    assert str(SkeletonBridge.between(CROWDPOSE, CROWDPOSE)) == (
        "14 of 14 joints and 15 of 15 limbs taught by 'crowdpose'"
    )


def test_strangers_are_refused_with_their_joints():
    hand = skeleton("wrist", "thumb", "nose", name="hand")
    with pytest.raises(ValueError, match=r"'coco' \(nose, .*'hand' \(wrist, .*share 1 joints"):
        SkeletonBridge.between(hand, COCO)


def test_a_skeleton_of_two_joints_may_have_a_teacher_of_its_own():
    stick = skeleton("top", "bottom")
    assert SkeletonBridge.between(stick, stick).mask == (1.0, 1.0)


def test_one_joint_under_two_spellings_is_refused():
    with pytest.raises(ValueError, match="joint names must differ"):
        skeleton("left_hip", "right_hip", "l_hip", "r_hip")
