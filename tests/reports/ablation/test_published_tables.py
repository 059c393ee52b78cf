"""The figures that pages state are those of the committed reports."""

import csv
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def report(name):
    with (REPOSITORY / "results" / name / "report.csv").open() as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def percent(row, name, sign=""):
    return f"{100 * float(row[name]):{sign}.1f}"


def difference(row, name):
    """A gain and its interval as a page writes them."""
    low, high = (percent(row, f"{name}_{end}", "+") for end in ("low", "high"))
    return f"{percent(row, name, '+')} [{low}, {high}]"


def rows_by_ap(name):
    """Each row's AP as a page writes it, and the row with its times as numbers."""
    for row in report(name).values():
        ap = percent(row, "AP")
        ap += f" ± {percent(row, 'AP_deviation')}" if row["AP_deviation"] else ""
        times = {key: float(row[key] or "nan") for key in row if key.startswith("relative_")}
        yield ap, {**row, **times}


def lines(name):
    """Training time of each row by its AP and gain, as a page writes them."""
    return {
        (ap, difference(row, "gain") if row["gain"] else ""): f"{row['relative_training']:.1f}x"
        for ap, row in rows_by_ap(name)
    }


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("lspet", "README.md"),
        ("lspet", "results/lspet/README.md"),
        ("field", "results/field/README.md"),
    ],
)
def test_the_tables_of_the_pages_are_those_of_the_report(name, page):
    text = (REPOSITORY / page).read_text()
    text = text[text.index("LSP-extended") :]
    known, seen = lines(name), 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        place = next((k for k, c in enumerate(cells) if re.fullmatch(r"\d+\.\d( ± \d\.\d)?", c)), 0)
        if place:
            ap, gain, training = cells[place : place + 3]
            assert (ap, gain) in known, line
            assert training in ("", known[ap, gain]), line
            seen += 1
    assert seen >= 7


def test_the_tables_of_methods_are_those_of_the_report():
    """AP and the multiples of the baseline's time, of codecs and of networks."""
    known = {
        f"{ap} | {row['relative_training']:.1f}x | {row['relative_inference']:.1f}x"
        for ap, row in rows_by_ap("field")
    }
    text = (REPOSITORY / "docs" / "methods.md").read_text()
    stated = re.findall(r"\| (\d+\.\d(?: ± \d\.\d)? \| [\d.]+x \| [\d.]+x) \|", text)
    assert len(stated) >= 11
    assert {*stated} <= known


def test_what_the_methods_gained_is_of_the_report():
    """Each method's line has its row's AP and one of its differences."""
    rows, seen = report("field"), 0
    for part in (REPOSITORY / "docs" / "methods.md").read_text().split("\n**")[1:]:
        method = re.search(r"method=(\w+)", part)[1].removesuffix("_heatmap")
        stated = " ".join(re.search(r"\*Gained here\*.*?\n- ", part, re.DOTALL)[0].split())
        if method in rows:
            row = rows[method]
            names = [key.removesuffix("_low") for key in row if key.endswith("_low") and row[key]]
            assert f"{percent(row, 'AP')} AP" in stated
            assert any(difference(row, name) in stated for name in names), stated
            seen += 1
    assert seen >= 5
