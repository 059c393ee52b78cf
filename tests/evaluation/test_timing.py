import io
import json
import re
import time

import pytest
from rich.console import Console

from benchmarks.page import page
from kdpose.evaluation.timing import Case, Row, _row, measure, report, table


def busy(seconds, done=3):
    def run():
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return done

    return run


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


def test_the_processes_own_time_is_measured():
    def idle():
        time.sleep(0.05)
        return 1

    fast, slow = measure([Case("idle", idle), Case("busy", busy(0.02))], 1, "cpu", "items/s")
    assert fast.median > 10 * 20  # a sleeping process uses no time of its own
    assert slow.median <= 3 / 0.02


def test_report_and_table():
    rows = measure([Case("a", busy(0.001)), Case("b", busy(0.001), "a", "a")], 2, "cpu", "items/s")
    told = json.loads(json.dumps(report("feed", rows, "cpu", repeats=2)))
    assert [Row(**row) for row in told["rows"]] == rows
    assert told["about"] == {"repeats": 2}
    assert told["machine"]["cores"] >= 1
    assert told["versions"]["torch"]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table("title", rows))
    assert re.search(r"^ *b +\d+ +\d+-\d+ +[\d.]+ +\d\.\d\dx .* \d+ %", console.export_text(), re.M)


def test_a_page_to_read():
    cases = [
        Case("a", busy(0.001), facts={"GMACs": 7.693}),
        Case("b", busy(0.001, 5000), "a", facts={"params M": 31.29}),
    ]
    rows = measure(cases, 2, "cpu", "items/s")
    text = page("Title", rows, report("x", rows, "cpu", repeats=2), "python -m x", "Of limit: x.")
    assert "\n- Of limit: x.\n- Made by" in text
    lines = text.splitlines()
    head = "|  | items/s | min-max | ms | ratio | min-max | of limit | GMACs | params M |"
    assert lines[:3:2] == ["# Title", head]
    assert re.fullmatch(r"\| a \| \d+ \| .* \|  \|  \|  \| 7\.69 \|  \|", lines[4])
    assert re.fullmatch(r"\| b \| \d+ \| .*x \| .* \|  \|  \| 31\.3 \|", lines[5])
    assert rows[1].ms == 1000 / rows[1].median
    assert "- Made by `python -m x`" in lines
    assert "2 rounds of all cases in turn, cpu time" in text


def test_errors():
    with pytest.raises(ValueError, match="repeats must be >= 1"):
        measure([Case("a", busy(0))], 0, "cpu", "items/s")
    with pytest.raises(ValueError, match="cases known, got 1, \\['c'\\]"):
        measure([Case("a", busy(0), reference="c")], 1, "cpu", "items/s")
