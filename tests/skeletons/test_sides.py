"""Left and right in names, in the spellings of public files and tools."""

import pytest

from kdpose.skeletons.sides import joint_key, named_sides, side, words

SPELLINGS = [
    ("LeftEar", "RightEar"), ("earL", "earR"), ("leftear", "rightear"), ("earleft", "earright"),
    ("LEar", "REar"), ("Ear_L", "Ear_R"), ("l_ear", "r_ear"), ("Left Ear", "Right Ear"),
    ("ear-left", "ear-right"), (" left_ear ", "right_ear "), ("LEFT_EAR", "RIGHT_EAR"),
    ("Ear (left)", "Ear (right)"), ("ear.L", "ear.R"), ("left_ear", "R Ear"), ("lt ear", "rt ear"),
]  # fmt: skip


@pytest.mark.parametrize("names", SPELLINGS, ids=str)
def test_spellings_of_ears(names):
    assert [joint_key(name) for name in names] == ["left_ear", "right_ear"]
    assert [side(name) for name in names] == ["left", "right"]
    assert named_sides(("nose", names[1], names[0])).pairs == ((2, 1),)


@pytest.mark.parametrize(
    "names",
    [
        ("lear", "rear"), ("earl", "earr"), ("LShoulder", "RShoulder"), ("FL_paw", "FR_paw"),
        ("LFpaw", "RFpaw"), ("LF", "RF"), ("LASI", "RASI"), ("paw1LH", "paw1RH"), ("l1", "r1"),
        ("frontleftpaw", "frontrightpaw"), ("hindpawL_2", "hindpawR_2"), ("LBigToe", "RBigToe"),
        ("oeil_gauche", "oeil_droite"), ("\u5de6\u80a9", "\u53f3\u80a9"), ("L", "R"),
    ],
    ids=str,
)  # fmt: skip
def test_names_that_differ_by_a_side_alone_make_a_pair(names):
    assert named_sides(("nose", *names, "tail")) == (((1, 2),), ())


def test_words():
    assert words(" LShoulder_2 (front)") == ["l", "shoulder", "2", "front"]


def test_what_has_no_side():
    names = ("pelvis", "collar", "leftover", "upright", "heel", "rear", "L4", "rib", "lip")
    assert named_sides(names) == ((), ())
    assert joint_key("leftover_joint") == "leftover_joint"
    assert side("rear") is None


def test_a_joint_without_its_partner():
    assert named_sides(("top", "left_tip", "knot")) == ((), (1,))
    assert named_sides(("left_elbow", "right_ellbow")) == ((), (0, 1))
