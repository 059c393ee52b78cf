import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from kdpose.skeletons.files import annotated_skeleton, category_skeleton
from kdpose.skeletons.known import COCO, CROWDPOSE, default_sigmas
from kdpose.skeletons.skeleton import Skeleton

BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
PAIRS = {
    "coco": [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)],
    "crowdpose": [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)],
}


def make(**changes):
    values = {
        "name": "mini",
        "joints": ("nose", "left_hip", "right_hip"),
        "limbs": ((0, 1), (0, 2)),
        "sigmas": (0.1, 0.2, 0.3),
    }
    return Skeleton(**{**values, **changes})


def test_sigmas_are_pycocotools():
    np.testing.assert_allclose(COCO.sigmas, Params("keypoints").kpt_oks_sigmas)


def test_crowdpose_shares_cocos_sigmas_joint_by_joint():
    coco = dict(zip(COCO.joints, COCO.sigmas, strict=True))
    for joint, sigma in zip(CROWDPOSE.joints, CROWDPOSE.sigmas, strict=True):
        assert sigma == coco.get(joint, 0.079)


@BOTH
def test_sizes(skeleton):
    joints, limbs, upper = {"coco": (17, 19, 11), "crowdpose": (14, 15, 8)}[skeleton.name]
    assert (len(skeleton), len(skeleton.limbs), len(skeleton.upper_body)) == (joints, limbs, upper)
    assert sorted(skeleton.upper_body + skeleton.lower_body) == list(range(joints))
    below = {"hip", "knee", "ankle"}
    assert {skeleton.joints[k].split("_")[-1] for k in skeleton.lower_body} == below


@BOTH
def test_flip_order_swaps_the_published_pairs(skeleton):
    expected = list(range(len(skeleton)))
    for a, b in PAIRS[skeleton.name]:
        expected[a], expected[b] = b, a
    assert skeleton.flip_order == tuple(expected)


@BOTH
def test_limbs_are_the_same_after_a_flip(skeleton):
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    order = skeleton.flip_order
    assert {frozenset((order[a], order[b])) for a, b in skeleton.limbs} == limbs
    assert len(limbs) == len(skeleton.limbs)


@pytest.mark.parametrize(
    "names", [("l-ankle", "r-ankle"), ("L Ankle", "R Ankle"), ("Left_Ankle", "Right_Ankle")]
)
def test_sides_are_found_in_any_spelling(names):
    skeleton = make(joints=("Root of tail", *names))
    assert skeleton.flip_order == (0, 2, 1)


def test_words_that_only_contain_a_side_are_midline():
    assert make(joints=("pelvis", "collar", "leftover")).flip_order == (0, 1, 2)


@BOTH
def test_limb_weights(skeleton):
    assert skeleton.limb_weights() == (1.0,) * len(skeleton.limbs)
    weights = skeleton.limb_weights("oks")
    assert np.mean(weights) == pytest.approx(1)
    first = {"coco": [0.60, 0.54, 0.60, 0.54, 0.49], "crowdpose": [0.94, 0.85, 0.94, 0.85, 0.78]}
    np.testing.assert_allclose(weights[:5], first[skeleton.name], atol=0.005)
    for weight, (a, b) in zip(weights, skeleton.limbs, strict=True):
        spread = np.hypot(skeleton.sigmas[a], skeleton.sigmas[b])
        reference = weights[0] * np.hypot(*(skeleton.sigmas[k] for k in skeleton.limbs[0]))
        assert weight * spread == pytest.approx(reference)


def test_unknown_limb_weights():
    with pytest.raises(ValueError, match="must be 'uniform' or 'oks', got 'length'"):
        COCO.limb_weights("length")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"joints": ("nose", "nose", "hip")}, "joint names must differ"),
        ({"joints": ("nose", "Left-hip", "left_hip")}, "joint names must differ"),
        ({"sigmas": (0.1,)}, "one sigma per joint, got 1 sigmas and 3 joints"),
        ({"sigmas": (0.1, 0.0, 0.1)}, "sigmas must be above 0"),
        ({"sigmas": (0.1, float("nan"), 0.1)}, "sigmas must be above 0"),
        ({"sigma_source": "guessed"}, "sigma_source must be one of given, estimated, default"),
        ({"flip_pairs": (("left_hip", "hip"),)}, "flip_pairs: no joint is called 'hip'"),
        (
            {"flip_pairs": (("nose", "left_hip"), ("left_hip", "right_hip"))},
            "must undo themselves, but 'left_hip' has more than one partner",
        ),
        ({"flip_pairs": (("nose", "nose"),)}, "'nose' has more than one partner"),
        ({"limbs": ((0, 3),)}, r"limb \(0, 3\) must join two of 3 joints"),
        ({"limbs": ((1, 1),)}, r"limb \(1, 1\) must join"),
        ({"limbs": ((-1, 1),)}, r"limb \(-1, 1\) must join"),
    ],
)
def test_parts_that_do_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        make(**changes)


@BOTH
def test_dict_survives_json(skeleton):
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


def test_flip_pairs_where_names_do_not_tell():
    names = {"joints": ("snout", "paw_a", "paw_b"), "flip_pairs": (("paw_a", "paw_b"),)}
    assert make(**names).flip_order == (0, 2, 1)
    assert make(**names).sides == ((1, 2),)
    assert make(**names | {"flip_pairs": ()}).flip_order == (0, 1, 2)
    again = Skeleton.from_dict(json.loads(json.dumps(make(**names).to_dict())))
    assert again == make(**names)


def test_what_older_checkpoints_say_is_read():
    older = {"name", "joints", "limbs", "sigmas", "upper_body"}
    assert Skeleton.from_dict({k: COCO.to_dict()[k] for k in older}) == COCO


def test_default_sigmas_are_cocos_by_name():
    assert default_sigmas(("tail", "l-hip", "Nose", "neck")) == (0.079, 0.107, 0.026, 0.079)


@BOTH
def test_left_comes_first_in_sides(skeleton):
    assert list(skeleton.sides) == PAIRS[skeleton.name]


@BOTH
def test_category_survives_json(skeleton):
    category = json.loads(json.dumps(skeleton.to_category()))
    assert min(min(limb) for limb in category["skeleton"]) == 1
    assert category_skeleton(category, skeleton.name) == skeleton


def test_custom_category():
    category = {"keypoints": ["tail", "l_paw", "r_paw"], "skeleton": [[1, 2], [1, 3]]}
    skeleton = category_skeleton(category, "cat")
    expected = Skeleton("cat", ("tail", "l_paw", "r_paw"), ((0, 1), (0, 2)), (0.079,) * 3)
    assert skeleton == replace(expected, sigma_source="default")
    assert skeleton.upper_body == ()
    sigmas = category_skeleton({**category, "sigmas": [0.1, 0.2, 0.3]}).sigmas
    assert sigmas == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("given", "limbs"),
    [
        ([[0, 1], [0, 2], [1, 3]], [(0, 1), (0, 2), (1, 3)]),  # from 0, since it names joint 0
        ([[1, 2], [1, 3], [2, 4]], [(0, 1), (0, 2), (1, 3)]),
        ([[1, 2], [2, 99]], [(0, 1)]),  # one number too many
        ([[1, 2], [3, 3]], [(0, 1)]),
        ([[1.0, 2.0], ["tail", "a"]], [(0, 1), (3, 0)]),
        ([[1, 7], [2, 8], [1, 2]], []),  # of other joints, as in CrowdPose's own file
        (None, []),
    ],
)
def test_limbs_of_a_category(given, limbs):
    category = {"keypoints": ["a", "b", "c", "tail"], "skeleton": given}
    assert category_skeleton(category).limbs == tuple(limbs)


def test_limbs_from_zero_that_never_name_joint_zero():
    category = {
        "keypoints": ["nose", "chest", "left_paw", "right_paw", "tail", "tip"],
        "skeleton": [[1, 2], [1, 3], [2, 4], [3, 4]],  # from 1 the sides would differ
    }
    expected = ((1, 2), (1, 3), (2, 4), (3, 4))
    assert category_skeleton(category).limbs == expected
    category["skeleton"] = [[2, 3], [2, 4], [3, 5], [4, 5]]
    assert category_skeleton(category).limbs == expected


@pytest.mark.parametrize(
    "given",
    [
        [[1, 2]],  # from 0, as in Animal Kingdom's file
        [[2, 3]],  # from 1, as the names tell
        [["1", "2"]],
        [["right_paw", "left_paw"]],
        [["Left Paw ", "paw R"]],
        [0, 2, 1, 3],  # YOLO's flip_idx
        [[0, 0], [1, 2], [2, 1]],
    ],
)
def test_flip_pairs_of_a_category(given):
    category = {"keypoints": ["top", "left_paw", "right_paw", "tail"], "flip_pairs": given}
    assert category_skeleton(category).flip_pairs == (("left_paw", "right_paw"),)


@pytest.mark.parametrize("given", [None, []])
def test_flip_pairs_that_are_not_given_follow_from_names(given):
    category = {"keypoints": ["top", "left_paw", "right_paw", "tail"], "flip_pairs": given}
    assert category_skeleton(category).sides == ((1, 2),)


def test_flip_pairs_that_do_not_undo_themselves():
    with pytest.raises(ValueError, match="undo itself"):
        category_skeleton({"keypoints": ["a", "b", "c"], "flip_pairs": [1, 2, 0]})
    with pytest.raises(ValueError, match="flip_pairs: no joint is called '9'"):
        category_skeleton({"keypoints": ["a", "b", "c"], "flip_pairs": [[1, 9]]})


def test_cocos_joints_in_another_spelling_have_its_limbs():
    names = [f" {name.title().replace('_', '')} " for name in COCO.joints]  # LeftEye
    skeleton = category_skeleton({"keypoints": names, "skeleton": []})
    assert skeleton.joints[1] == "LeftEye"
    assert (skeleton.limbs, skeleton.sigmas) == (COCO.limbs, COCO.sigmas)
    assert skeleton.flip_order == COCO.flip_order


def test_category_without_keypoints():
    with pytest.raises(ValueError, match="category 'dog' names no keypoints"):
        category_skeleton({"name": "dog"})


def test_from_json(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=f"no annotations at {path}"):
        annotated_skeleton(path)
    path.write_text(json.dumps({"categories": [{"name": "dog"}]}))
    with pytest.raises(ValueError, match=f"{path}: none of its 1 categories names its keypoints"):
        annotated_skeleton(path)
    path.write_text(json.dumps({"categories": [{"name": "dog"}, CROWDPOSE.to_category()]}))
    assert annotated_skeleton(path, "crowdpose") == CROWDPOSE


def test_cocos_own_file(real_data):
    path = real_data / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    category = json.loads(path.read_text())["categories"][0]
    assert tuple(category["keypoints"]) == COCO.joints
    assert {frozenset(limb) for limb in category["skeleton"]} == {
        frozenset((a + 1, b + 1)) for a, b in COCO.limbs
    }
    assert annotated_skeleton(path, "coco") == COCO


def test_crowdposes_own_file(real_data):
    path = real_data / "crowdpose" / "annotations" / "crowdpose_val.json"
    assert annotated_skeleton(path, "crowdpose") == CROWDPOSE  # its own limbs are a stale list


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "train.json"
    for content, said in (("<html>", "not JSON"), ("[]", "a list: of detections or results")):
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"train\.json is {said}"):
            annotated_skeleton(path)
