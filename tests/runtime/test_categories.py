"""Which annotations of a file are persons."""

import pytest

from kdpose.runtime.categories import category_id, classes, of_people, people

KITE = {"id": 1, "name": "kite", "keypoints": [" top", "left_tip ", "right_tip"]}
DRAGON = {"id": 2, "name": "dragon", "keypoints": ["top", "left_tip", "right_tip"]}
STRING = {"id": 3, "name": "string", "keypoints": ["start", "end"]}
BALL = {"id": 4, "name": "ball"}


def row(kind, joints=3):
    return {"category_id": kind, "keypoints": [1, 1, 2] * joints}


def test_ids_are_the_same_in_any_spelling():
    assert [category_id({"category_id": v}) for v in (3, 3.0, "3", None, "kite")] == [
        3, 3, 3, None, "kite",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("categories", "asked", "expected"),
    [
        ([KITE, DRAGON, STRING, BALL], None, [1, 2]),
        ([STRING, KITE], None, [2, 3, 4]),  # those of numbers that are not listed count
        ([KITE, DRAGON], "dragon", [2]),
        ([KITE, DRAGON], 1, [1]),
        ([KITE, BALL], "ball", [4]),
        ([BALL], None, [1, 2, 3, 4, 9]),  # nothing tells
        (None, None, [1, 2, 3, 4, 9]),
    ],
)
def test_who_is_a_person(categories, asked, expected):
    chosen = people(categories, asked)
    found = [k for k in (1, 2, 3, 4, 9) if chosen.has({"category_id": k})]
    assert [k for k in found if k != 9 or k in expected] == expected
    assert chosen.has({}) is (asked is None)


def test_no_such_category():
    with pytest.raises(ValueError, match=r"a.json has no category 'cow': it has kite \(1\), ball"):
        people([KITE, BALL], "cow", "a.json")


def test_content_of_persons_alone():
    rows = [row(1), row(3, 2), row(4, 0), row("1")]
    content = {"images": [], "annotations": rows, "categories": [KITE, STRING, BALL]}
    kept, said = of_people(content)
    assert kept["annotations"] == [rows[0], rows[3]]
    assert kept["categories"] == [KITE]
    assert "1 of string (3); category=NAME takes one" in said  # balls are no persons
    kept, said = of_people(content, "string")
    assert (kept["annotations"], said) == ([rows[1]], "")


def test_a_file_without_joint_names_has_the_persons_that_have_joints():
    content = {"annotations": [row(1), row(4, 0)], "categories": [{"id": 1, "name": "x"}, BALL]}
    kept, _ = of_people(content)
    assert kept["annotations"] == [row(1)]


def test_classes():
    twins = [KITE, {**DRAGON, "name": "kite"}, BALL]
    content = {"annotations": [row(1), row(2), row(4, 0)], "categories": twins}
    assert classes(content) == {1: "kite (1)", 2: "kite (2)"}
    assert classes({"annotations": [row(1), row(9)], "categories": [KITE, DRAGON]}) == {1: "kite"}
