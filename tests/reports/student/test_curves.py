import re
import xml.etree.ElementTree as ET

import pytest

from kdpose.reports.student.curves import in_words, line_chart

CURVES = {"kl": {0: 8.0, 1: 4.0, 2: 2.0}, "fea": {0: 1.0, 1: 0.5}}


def test_a_chart_is_one_element_of_the_page():
    svg = line_chart(CURVES, "weighted loss", "stage1-losses")
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "metadata" not in svg
    words = {text.text.strip() for text in root.iter() if text.tag.endswith("text") and text.text}
    assert {"epoch", "weighted loss", "kl", "fea"} <= words


def test_an_ap_of_nothing_has_no_negative_axis():
    assert "\N{MINUS SIGN}" not in line_chart({"AP": {0: 0.0, 1: 0.0}}, "AP", "a")


def test_colours_are_the_pages_own():
    svg = line_chart(CURVES, "loss", "a")
    assert "var(--c0)" in svg
    assert "var(--c1)" in svg
    assert "var(--c2)" not in svg
    assert "currentColor" in svg
    assert not re.search(r"#(fe00|000000|ffffff)", svg)


def test_ids_of_two_charts_differ():
    ids = [re.findall(r'\bid="([^"]+)"', line_chart(CURVES, "loss", name)) for name in "ab"]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    svg = line_chart(CURVES, "loss", "a")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    assert used
    assert used <= set(ids[0])


def test_too_many_curves_are_refused():
    with pytest.raises(ValueError, match="curves must be 6 or fewer"):
        line_chart({str(k): {0: 1.0} for k in range(7)}, "loss", "a")


def test_in_words():
    assert in_words(CURVES) == ("kl: 8 in epoch 1, 2 in epoch 3; fea: 1 in epoch 1, 0.5 in epoch 2")
    assert in_words({"AP": {4: 12.345}}) == "AP: 12.3 in epoch 5"
