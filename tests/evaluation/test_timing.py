import io
import json
import os
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from benchmarks.page import page
from kdpose.evaluation.timing import _CLOCKS, Case, Row, _row, measure, report, table


class FakeClock:
    """Seconds that pass only while a case says so."""

    now = 0.0

    def __call__(self):
        return self.now

    def case(self, seconds, done=3):
        def run():
            self.now += seconds
            return done

        return run


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    monkeypatch.setitem(_CLOCKS, "cpu", fake)
    return fake


def test_cases_take_turns():
    calls = []

    def case(name, **options):
        return Case(name, lambda: calls.append(name) or 1, **options)

    cases = [case("a"), case("b", reference="a"), case("c", reference="a", limit="b")]
    rows = measure(cases, 3, "wall", "items/s")
    assert calls == ["a", "b", "c"] * 4  # the first round warms up
    assert [row.name for row in rows] == ["a", "b", "c"]


def test_figures_by_hand():
    rates = {"a": [10.0, 20.0, 30.0], "b": [30.0, 30.0, 60.0], "top": [100.0, 60.0, 60.0]}
    row = _row(Case("b", lambda: 1, "a", "top"), rates, "items/s")
    assert (row.median, row.min, row.max, row.unit) == (30, 30, 60, "items/s")
    assert (row.ratio, row.ratio_min, row.ratio_max) == (2, 1.5, 3)  # 3, 1.5 and 2 in turn
    assert row.share == 0.5
    heavy = Case("b", lambda: 1, "a", "top", cost=1.5)  # one of it is one and a half of the limit's
    assert _row(heavy, rates, "items/s").share == 0.75
    alone = _row(Case("a", lambda: 1), rates, "items/s")
    assert (alone.ratio, alone.share, alone.reference) == (None, None, None)


def test_rates_are_units_per_second_of_the_clock(clock):
    cases = [Case("slow", clock.case(0.5)), Case("fast", clock.case(0.02, done=1), "slow")]
    slow, fast = measure(cases, 3, "cpu", "items/s")
    assert (slow.median, slow.min, slow.max) == pytest.approx((6, 6, 6))
    assert (fast.median, fast.ms, fast.ratio) == pytest.approx((50, 20, 50 / 6))


def test_the_clocks_are_what_they_are_named_after():
    assert _CLOCKS["cpu"] is time.process_time  # of this process alone: none while it sleeps
    assert _CLOCKS["wall"] is time.perf_counter
    own = os.times()
    before = _CLOCKS["children"]()
    assert before == pytest.approx(own.children_user + own.children_system)
    subprocess.run([sys.executable, "-c", "sum(range(2_000_000))"], check=True)
    assert _CLOCKS["children"]() > before


def test_report_and_table(clock):
    cases = [Case("a", clock.case(0.001)), Case("b", clock.case(0.001), "a", "a")]
    rows = measure(cases, 2, "cpu", "items/s")
    told = json.loads(json.dumps(report("feed", rows, "cpu", repeats=2)))
    assert [Row(**row) for row in told["rows"]] == rows
    assert told["about"] == {"repeats": 2}
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["torch"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table("title", rows))
    assert re.search(r"^ *b +\d+ +\d+-\d+ +[\d.]+ +\d\.\d\dx .* \d+ %", console.export_text(), re.M)


def test_a_page_to_read(clock):
    cases = [
        Case("a", clock.case(0.001), facts={"GMACs": 7.693}),
        Case("b", clock.case(0.001, 5000), "a", facts={"params M": 31.29}),
    ]
    rows = measure(cases, 2, "cpu", "items/s")
    text = page("Title", rows, report("x", rows, "cpu", repeats=2), "kdpose x", "Of limit: x.")
    assert "\n- Of limit: x.\n- Made by" in text
    lines = text.splitlines()
    head = "|  | items/s | min-max | ms | ratio | min-max | GMACs | params M |"  # no limit
    assert lines[:3:2] == ["# Title", head]
    assert re.fullmatch(r"\| a \| \d+ \| .* \|  \|  \| 7\.69 \|  \|", lines[4])
    assert re.fullmatch(r"\| b \| \d+ \| .*x \| .* \|  \| 31\.3 \|", lines[5])
    assert rows[1].ms == 1000 / rows[1].median
    assert "- Made by `kdpose x`" in lines
    assert "2 rounds of all cases in turn, cpu time" in text


def test_errors(clock):
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        measure([Case("a", clock.case(0))], 0, "cpu", "items/s")
    with pytest.raises(ValueError, match="cases known, got 1, \\['c'\\]"):
        measure([Case("a", clock.case(0), reference="c")], 1, "cpu", "items/s")
