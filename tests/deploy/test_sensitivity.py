import pytest

from kdpose.deploy.sensitivity import Choice, Cost, Quantized, choose_int8, group_costs

GROUPS = ("stem", "body", "head")
AP = {"stem": 0.2, "body": 0.0, "head": 0.5}
PX = {"stem": 0.1, "body": 0.02, "head": 0.4}


class Measured:
    """Costs that add up; remembers what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, chosen):
        self.asked.append(chosen)
        return Cost(sum(AP[g] for g in chosen), sum(PX[g] for g in chosen))


def test_all_become_integers_where_the_budget_allows():
    measure = Measured()
    choice = choose_int8(measure, GROUPS, budget=0.7)
    assert choice == Choice(GROUPS, Cost(0.7, pytest.approx(0.52)), {})
    assert measure.asked == [GROUPS]


def test_the_costliest_group_gets_its_floats_back_first():
    measure = Measured()
    choice = choose_int8(measure, GROUPS, budget=0.25)
    assert choice.int8 == ("stem", "body")
    assert choice.cost.ap == pytest.approx(0.2)
    assert choice.alone == {g: Cost(AP[g], PX[g]) for g in GROUPS}
    assert measure.asked == [GROUPS, ("stem",), ("body",), ("head",), ("stem", "body")]


def test_one_after_the_other_until_it_fits():
    assert choose_int8(Measured(), GROUPS, budget=0.1).int8 == ("body",)


def test_pixels_rank_the_groups_where_ap_is_noise():
    noisy = {"a": Cost(-0.2, 0.9), "b": Cost(0.3, 0.1), ("a", "b"): Cost(0.6, 1.0)}
    choice = choose_int8(lambda c: noisy[c if len(c) > 1 else c[0]], ("a", "b"), budget=0.3)
    assert choice.int8 == ("b",)


def test_nothing_fits():
    choice = choose_int8(lambda chosen: Cost(9.0, 9.0), GROUPS, budget=0.1)
    assert choice == Choice((), Cost(0.0, 0.0), dict.fromkeys(GROUPS, Cost(9.0, 9.0)))


def test_the_table_can_be_asked_for():
    choice = choose_int8(Measured(), GROUPS, budget=9, always_table=True)
    assert choice.int8 == GROUPS
    assert choice.alone == group_costs(Measured(), GROUPS)


def test_the_others_stay_in_float():
    choice = Choice(("body",), Cost(0, 0), {})
    quantized = Quantized(lambda path, card: None, choice, list(GROUPS), Measured())
    assert quantized.float_groups == ["stem", "head"]
