"""Curves as inline SVG in the page's colours, light or dark."""

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK = "#fe00ff"  # placeholder for the page's text colour
_COLORS = tuple(f"#fe000{i}" for i in range(6))  # and for its variables --c0 to --c5
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: the page's font, selectable
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Curve = Mapping[int, float]  # by epoch, from 0


def line_chart(curves: Mapping[str, Curve], ylabel: str, name: str) -> str:
    """Curves over epochs as an ``<svg>`` element, logarithmic if they span decades.

    Args:
        curves: by label, six at most.
        ylabel: label of the y axis.
        name: unique on the page: prefix of the element's ids.

    Raises:
        ValueError: there are more curves than colours.
    """
    if len(curves) > len(_COLORS):
        raise ValueError(f"curves must be {len(_COLORS)} or fewer, got {list(curves)}")
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(4.6, 2.9), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        for (label, curve), color in zip(curves.items(), _COLORS, strict=False):
            epochs = [epoch + 1 for epoch in sorted(curve)]
            marker = "o" if len(epochs) < 12 else ""
            heights = [curve[epoch - 1] for epoch in epochs]
            axes.plot(epochs, heights, color=color, marker=marker, ms=4, label=label)
        values = [value for curve in curves.values() for value in curve.values()]
        if 0 < 20 * min(values) < max(values):
            axes.set_yscale("log")
        elif min(values) == max(values) == 0:
            axes.set_ylim(0, 1)  # AP is not negative
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, color=_INK, linewidth=0.6)
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=9, ncols=2 if len(curves) > 3 else 1)
        text = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=nothing)
    return _for_page(text.getvalue(), name)


def _for_page(svg: str, name: str) -> str:
    """The ``<svg>`` element alone, with unique ids and the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(_INK, "currentColor")
    for index, color in enumerate(_COLORS):
        svg = svg.replace(color, f"var(--c{index})")
    return svg.replace("<svg ", '<svg aria-hidden="true" ', 1)


def in_words(curves: Mapping[str, Curve]) -> str:
    """Alternative text: the first and last value of each curve."""
    parts = []
    for label, curve in curves.items():
        first, last = min(curve), max(curve)
        change = f"{curve[first]:.3g} in epoch {first + 1}"
        if last != first:
            change += f", {curve[last]:.3g} in epoch {last + 1}"
        parts.append(f"{label}: {change}")
    return "; ".join(parts)
