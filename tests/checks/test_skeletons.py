"""What the doctor says of sides and limbs."""

from kdpose.checks.skeletons import checkpoint_joints, own_facts
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton


def kinds(*joints, **parts):
    """What the doctor says of a skeleton itself, by kind."""
    values = {"name": "kite", "limbs": ((0, 1),), "sigmas": (0.1,) * len(joints)}
    return {f.kind: f for f in own_facts(Skeleton(joints=joints, **{**values, **parts}))}


def test_a_joint_on_one_side_alone_is_a_warning():
    found = kinds("top", "left_tip", "knot", "tail")["one_sided"]
    assert (found.severity, found.count) == ("warning", 1)
    assert [str(example) for example in found.examples] == ["left_tip"]
    assert "skeleton=FILE.yaml" in found.message


def test_sides_that_make_no_pair_are_an_error():
    assert kinds("top", "left_elbow", "right_ellbow")["one_sided"].severity == "error"
    found = kinds("top", "left_tip", "right_tip", flip_pairs=())["unpaired_sides"]
    assert (found.severity, found.count) == ("error", 1)
    assert str(found.examples[0]) == "left_tip, right_tip"
    assert not kinds("top", "leftTip", "rightTip")


def test_what_was_done_to_limbs(planted):
    planted.data["val"]["categories"][0] |= {
        "keypoints": [f"{name}_x" for name in CROWDPOSE.joints],
        "skeleton": [[0, 1], [0, 13]],
    }
    found = planted.findings()["limbs"]
    assert (found.severity, found.split) == ("warning", "val")
    assert "limbs are counted from 0" in found.message


def test_a_checkpoint_of_the_same_joints_in_another_order_or_spelling():
    joints = tuple(name.title().replace("_", "") for name in reversed(CROWDPOSE.joints))
    other = Skeleton("mine", joints, (), CROWDPOSE.sigmas)
    assert not list(checkpoint_joints(CROWDPOSE, "c.ckpt", other))
    assert list(checkpoint_joints(COCO, "c.ckpt", other))


def test_joints_in_another_order_are_an_error_even_if_some_have_other_names(planted):
    names = [*CROWDPOSE.joints[::-1][:-1], "shoulder"]
    planted.data["val"]["categories"][0] |= {"keypoints": names, "skeleton": []}
    assert planted.findings()["skeleton_mismatch"].severity == "error"
    names = [*CROWDPOSE.joints[:-2], "head_top", "throat"]
    planted.data["val"]["categories"][0] |= {"keypoints": names}
    assert planted.findings()["skeleton_mismatch"].severity == "warning"
