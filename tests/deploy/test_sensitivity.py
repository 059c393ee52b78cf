import pytest

from kdpose.deploy.sensitivity import Choice, Cost, Quantized, choose_int8, group_costs

GROUPS = ("stem", "body", "head")
AP = {"stem": 0.2, "body": 0.0, "head": 0.5}
PX = {"stem": 0.1, "body": 0.02, "head": 0.4}


def up_to(ap=None, share=None):
    """What may be paid."""
    return lambda cost: cost.within(ap, share)


class Measured:
    """Costs that add up; remembers what was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, chosen):
        self.asked.append(chosen)
        px = sum(PX[g] for g in chosen)
        return Cost(sum(AP[g] for g in chosen), px, px / 100)


def test_all_become_integers_where_the_budget_allows():
    measure = Measured()
    choice = choose_int8(measure, GROUPS, up_to(0.7))
    assert choice == Choice(GROUPS, Cost(0.7, pytest.approx(0.52), pytest.approx(0.0052)), {})
    assert measure.asked == [GROUPS]


def test_the_costliest_group_gets_its_floats_back_first():
    measure = Measured()
    choice = choose_int8(measure, GROUPS, up_to(0.25))
    assert choice.int8 == ("stem", "body")
    assert choice.cost.ap == pytest.approx(0.2)
    assert choice.alone == {g: Cost(AP[g], PX[g], PX[g] / 100) for g in GROUPS}
    assert measure.asked == [GROUPS, ("stem",), ("body",), ("head",), ("stem", "body")]


def test_one_after_the_other_until_it_fits():
    assert choose_int8(Measured(), GROUPS, up_to(0.1)).int8 == ("body",)


def test_pixels_rank_the_groups_where_ap_is_noise():
    noisy = {"a": Cost(-0.2, 0.9, 0), "b": Cost(0.3, 0.1, 0), ("a", "b"): Cost(0.6, 1.0, 0)}
    choice = choose_int8(lambda c: noisy[c if len(c) > 1 else c[0]], ("a", "b"), up_to(0.3))
    assert choice.int8 == ("b",)


def test_nothing_fits():
    choice = choose_int8(lambda chosen: Cost(9.0, 9.0, 0.3), GROUPS, up_to(0.1))
    assert choice == Choice((), Cost(0.0, 0.0, 0.0), dict.fromkeys(GROUPS, Cost(9.0, 9.0, 0.3)))


def test_the_table_can_be_asked_for():
    choice = choose_int8(Measured(), GROUPS, up_to(9), always_table=True)
    assert choice.int8 == GROUPS
    assert choice.alone == group_costs(Measured(), GROUPS)


def test_the_others_stay_in_float():
    choice = Choice(("body",), Cost(0, 0, 0), {})
    quantized = Quantized(lambda path, card: None, choice, list(GROUPS), Measured())
    assert quantized.float_groups == ["stem", "head"]


def test_distances_decide_where_there_are_no_labels():
    cost = Cost(None, 1.0, 0.03)
    assert cost.within(0.25, 0.03)
    assert not cost.within(0.25, 0.02)
    assert cost.within(0.25, None)


def test_a_shift_costs_even_where_ap_rises():
    assert not Cost(-0.8, 5.0, 0.2).within(0.25, 0.025)
