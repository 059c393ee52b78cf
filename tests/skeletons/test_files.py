import json

import pytest

from kdpose.skeletons.files import named_skeleton, read_skeleton, write_skeleton
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

CAT = """
joints: [nose, left_ear, right_ear, tail]
limbs: [[nose, left_ear], [nose, right_ear], [nose, tail]]
"""


def write(folder, text):
    path = folder / "cat.yaml"
    path.write_text(text)
    return path


def test_a_yaml_of_joints_and_limbs(tmp_path):
    cat = read_skeleton(write(tmp_path, CAT))
    assert (cat.name, len(cat), cat.limbs) == ("cat", 4, ((0, 1), (0, 2), (0, 3)))
    assert cat.flip_order == (0, 2, 1, 3)
    assert cat.sigmas == (0.026, 0.035, 0.035, 0.079)  # COCO's of nose and ears
    assert cat.sigma_source == "default"


def test_all_keys(tmp_path):
    text = (
        CAT.replace("left_ear", "ear_a").replace("right_ear", "ear_b")
        + "name: tom\nsigmas: {tail: 0.1, nose: 0.02, ear_a: 0.03, ear_b: 0.03}\n"
        + "sigma_source: estimated\nupper_body: [nose, ear_b]\nflip_pairs: [[ear_a, ear_b]]\n"
    )
    tom = read_skeleton(write(tmp_path, text))
    assert tom == Skeleton(
        "tom",
        ("nose", "ear_a", "ear_b", "tail"),
        ((0, 1), (0, 2), (0, 3)),
        (0.02, 0.03, 0.03, 0.1),
        (0, 2),
        (("ear_a", "ear_b"),),
        "estimated",
    )
    write_skeleton(tmp_path / "again.yaml", tom)
    assert read_skeleton(tmp_path / "again.yaml") == tom


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[1, 2", "cat.yaml is not YAML"),
        ("nose", "cat.yaml is not a skeleton: it needs 'joints', a list of names"),
        (CAT + "edges: []", "unknown keys edges; known are name, joints"),
        (CAT + "upper_body: [paw]", "cat.yaml: upper_body: no joint is called 'paw'"),
        (CAT + "sigmas: {nose: 0.1}", "sigmas must name every joint, 'left_ear' is missing"),
        (CAT + "sigmas: [0.1]", "needs one sigma per joint, got 1 sigmas and 4 joints"),
        (CAT + "sigmas: [a, b, c, d]", "cat.yaml: could not convert"),
        (CAT + "flip_pairs: [[nose, paw]]", "flip_pairs: no joint is called 'paw'"),
        (CAT + "limbs: [[0, 9]]", "limbs: no joint is called '9'"),
        (CAT + "limbs: [nose]", "limbs: nose must be two joints"),
    ],
)
def test_what_is_wrong_with_a_yaml(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        read_skeleton(write(tmp_path, text))


def test_joints_by_number_and_in_other_spellings(tmp_path):
    text = """
joints: [" Nose ", earL, earR, tail]
limbs: [[0, 1], [0, 2], [nose, tail]]
flip_pairs: [[1, 2]]
sigmas: {Nose: 0.02, ear-l: 0.03, ear-r: 0.03, tail: 0.1}
upper_body: [nose]
"""
    cat = read_skeleton(write(tmp_path, text))
    assert cat.joints == ("Nose", "earL", "earR", "tail")
    assert cat.limbs == ((0, 1), (0, 2), (0, 3))
    assert cat.flip_pairs == (("earL", "earR"),)
    assert (cat.sigmas, cat.upper_body) == ((0.02, 0.03, 0.03, 0.1), (0,))


def test_a_file_without_joint_names_says_what_to_do(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"categories": [{"id": 1, "name": "kite", "keypoints": []}]}))
    with pytest.raises(ValueError, match=r"a\.json: none of its 1 categories.*skeleton=FILE\.yaml"):
        read_skeleton(path)


def test_names_and_files(tmp_path):
    assert named_skeleton("coco") is COCO
    assert named_skeleton(write(tmp_path, CAT)).name == "cat"
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"categories": [CROWDPOSE.to_category()]}))
    assert named_skeleton(path) is CROWDPOSE
    assert named_skeleton(str(path)) is CROWDPOSE
    with pytest.raises(FileNotFoundError, match="to read a skeleton from"):
        named_skeleton("mpii")
    with pytest.raises(FileNotFoundError, match=r"no skeleton at .*none\.yaml"):
        named_skeleton(tmp_path / "none.yaml")
