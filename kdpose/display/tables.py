"""Tables as Markdown, CSV and on the console, and the caption that states what was measured."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

METRICS = ("AP", "AP50", "AP75", "AR", "APM", "APL", "AP_easy", "AP_medium", "AP_hard")
_SHORT = {"AP_easy": "AP_E", "AP_medium": "AP_M", "AP_hard": "AP_H"}


def as_markdown(cells: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, without a newline at its end.

    Args:
        cells: by line, header first.
        left: how many of the first columns are aligned to the left; the others are to the right.
    """
    rule = ["---" if column < left else "---:" for column in range(len(cells[0]))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (cells[0], rule, *cells[1:]))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with a header; a row leaves the columns empty that it does not have."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def metrics_table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    """AP, AR and, if known, cost side by side, in percent; ``n/a`` if undefined."""
    shown = [name for name in METRICS if any(name in row for row in rows.values())]
    costs = all("params" in row for row in rows.values())
    table = Table(title=title, box=box.SIMPLE, padding=0)
    table.add_column("model", overflow="fold")  # the only column that wraps on a narrow console
    for name in table_header(shown, costs):
        table.add_column(name, justify="right", no_wrap=True)
    for label, row in rows.items():
        table.add_row(label, *table_cells(row, shown, costs))
    return table


def table_header(shown: list[str], costs: bool = True) -> list[str]:
    """Short names of the metrics, as in the field's tables."""
    return [_SHORT.get(name, name) for name in shown] + ["params M", "GFLOPs"] * costs


def table_cells(row: dict[str, Any], shown: list[str], costs: bool = True) -> list[str]:
    """The metrics of one model as text."""
    figures = ["n/a" if row.get(n) is None else f"{100 * row[n]:.1f}" for n in shown]
    if not costs:
        return figures
    if "params" not in row:  # of a network of another project
        return [*figures, "n/a", "n/a"]
    return [*figures, f"{row['params'] / 1e6:.2f}", f"{row['gmacs']:.3f}"]


def caption(record: dict[str, Any]) -> str:
    """What an AP was measured on and with, in one line; the record has the rest.

    Args:
        record: from :func:`kdpose.evaluation.score.score`, possibly with several ``sources``.
    """
    sources = record.get("sources", {"": record}).values()
    parts = [
        f"{record['split']} ({record['annotations_sha256'][:8]}): "
        f"{record['persons']} persons in {record['images']} images",
        _categories(record),
        f"{len(record['shared_joints'])} shared joints" if "shared_joints" in record else "",
        " and ".join(_boxes(source) for source in sources),
        _flip(record),
        _sigmas(record),
        _code(record),
    ]
    return ", ".join(part for part in parts if part)


def _categories(record: dict[str, Any]) -> str:
    """Of several categories, whose mean the figures are, the AP of each."""
    figures = {k: "n/a" if v is None else f"{100 * v:.1f}" for k, v in _apart(record).items()}
    each = ", ".join(f"{name} {ap}" for name, ap in figures.items())
    return f"mean of {len(figures)} categories (AP of {each})" if figures else ""


def _apart(record: dict[str, Any]) -> dict[str, float | None]:
    return dict(record.get("categories") or {})


def _sigmas(record: dict[str, Any]) -> str:
    """The sigmas, and AP at half and double of them if they are defaults."""
    if record.get("sigma_source", "given") == "given":
        return f"sigmas of {record['skeleton']}"
    figures = [record["AP_half_sigma"], record["AP_double_sigma"]]
    half, double = ("n/a" if ap is None else f"{100 * ap:.1f}" for ap in figures)
    return f"{record['sigma_source']} sigmas (AP {half} at half, {double} at double the sigmas)"


def _boxes(record: dict[str, Any]) -> str:
    if "predictions" in record:
        name = Path(record["predictions"]).name
        return f"{record['results']} results of {name} ({record['predictions_sha256'][:8]})"
    if record["box_source"] == "gt":
        return "ground-truth boxes"
    return f"boxes of {Path(record['box_source']).name} ({record['boxes_sha256'][:8]})"


def _flip(record: dict[str, Any]) -> str:
    if record["flip"] is None:
        return ""  # unknown: the file was made elsewhere
    shift = record["flip_shift_bins"]
    return f"flip test on (shift {shift:g})" if record["flip"] else "flip test off"


def _code(record: dict[str, Any]) -> str:
    commit = "" if record["commit"] is None else f" {record['commit'][:8]}"
    return f"kdpose {record['version']}{commit}{'+' if record['dirty'] else ''}"
