"""The report as text: Markdown, CSV and the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.costs import Cost
from kdpose.reports.ablation.rows import FIGURES, Difference, Row

_TRAINING = ("epochs", "seconds", "device")
_PAPER = ["paper AP", "paper gain"]
_SHORT = {"AP_easy": "AP_E", "AP_medium": "AP_M", "AP_hard": "AP_H", "PCK": "PCK@0.2"}
Cells = list[list[str]]


def percent(value: float | None, sign: bool = False) -> str:
    """A fraction in percent; ``n/a`` if undefined."""
    return "n/a" if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def over_seeds(mean: float | None, deviation: float | None) -> str:
    """A mean in percent, and its standard deviation over the seeds where there are several."""
    return percent(mean) + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def main_table(rows: Sequence[Row], confidence: float) -> Cells:
    """The rows' metrics, header first, in percent."""
    base = next((row for row in rows if row.difference is None and "AP" in row.paper), None)
    shown = [n for n in (*FIGURES[1:], "PCK") if any(n in row.means for row in rows)]
    header = ["", "scheme", "seeds", "AP", f"gain [{100 * confidence:g} %]"]
    header += [_SHORT.get(name, name) for name in shown]
    header += ["quoted"] if any("quoted" in row.paper for row in rows) else _PAPER
    lines = [header]
    for row in rows:
        lines.append(
            [
                row.label,
                str(row.paper.get("scheme", "")),
                str(len(row.runs)),
                over_seeds(row.means.get("AP"), row.deviation),
                _gain(row.difference),
                *(percent(row.means.get(name)) for name in shown),
                *([str(row.paper.get("quoted", ""))] if "quoted" in header else _paper(row, base)),
            ]
        )
    return lines


def _paper(row: Row, base: Row | None) -> list[str]:
    """The paper's AP where it compares, and its gain."""
    gained = base is not None and row is not base and "AP" in row.paper
    gain = f"{row.paper['AP'] - base.paper['AP']:+.1f}" if base is not None and gained else ""
    return [str(row.paper_levels.get("AP", "")), gain]


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return ""
    low, high = percent(gain.low, sign=True), percent(gain.high, sign=True)
    return f"{percent(gain.mean, sign=True)} [{low}, {high}]"


def controls_table(rows: Sequence[Row]) -> Cells:
    """Rows beside controls that cost the same; header first, [] without any."""
    lines = [
        [row.label, one.over, str(one.seeds), _gain(one)] for row in rows for one in row.beside
    ]
    return [["", "control", "seeds", "gain over it"], *lines] if lines else []


def narrow(cells: Cells) -> Cells:
    """The main table for a terminal: AP, its gain and the paper's."""
    last = 0 if cells[0][-1] == "quoted" else 1  # too wide
    return [[line[0], *line[2:5], *line[len(line) - last :]] for line in cells]


def breakdown_table(rows: Sequence[Row], part: str) -> Cells:
    """AP by ``joints``, ``occlusion`` or ``crowding``, header first; [] if no row has any."""
    keys = list(dict.fromkeys(key for row in rows for key in getattr(row, part)))
    if not any(value is not None for row in rows for value in getattr(row, part).values()):
        return []
    header = ["", *(key.replace("left_", "l. ").replace("right_", "r. ") for key in keys)]
    return [header] + [
        [row.label, *(percent(getattr(row, part).get(key)) for key in keys)] for row in rows
    ]


def shares_table(rows: Sequence[Row]) -> Cells:
    """Each term's share of the gradient in the first and last epoch and over all; header first."""
    taught = [row for row in rows if row.shares]
    if not taught:
        return []
    lines = [["", "term", "first epoch", "last epoch", "mean"]]
    for row in taught:
        for term, by_epoch in row.shares.items():
            values = list(by_epoch.values())
            mean = sum(values) / len(values)
            lines.append([row.label, term, *(percent(v) for v in (values[0], values[-1], mean))])
    return lines


def cost_table(rows: Sequence[Row], costs: Mapping[str, Cost]) -> Cells:
    """Cost of each row's network and of its last training, and the command that trains it."""
    times = ["inference", "training"] if costs else []
    lines = [["", "params M", "GMACs", *times, "epochs", "minutes", "device", "command"]]
    for row in rows:
        first, spent = row.runs[0].metrics, [run.metrics.get("training", {}) for run in row.runs]
        seconds = [one["seconds"] for one in spent if "seconds" in one]
        lines.append(
            [
                row.label,
                f"{first['params'] / 1e6:.2f}" if "params" in first else "",
                f"{first['gmacs']:.3f}" if "gmacs" in first else "",
                *([f"{v:.2f}x" for v in costs.get(row.label, ())] or [""] * len(times)),
                str(spent[0].get("epochs", "")),
                f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else "",
                str(spent[0].get("device", "")),
                f"`{command}`" if (command := row.command) else "",
            ]
        )
    return lines


def lineage_table(runs: Sequence[Run]) -> Cells:
    """The sources of each run's AP; header first, hashes shortened."""
    lines = []
    for run in runs:
        line = dict(run.lineage)
        commit = "n/a" if line["commit"] is None else str(line["commit"])[:10]
        line["commit"] = f"{commit} + changes" if line.pop("dirty") else commit
        line["AP"] = percent(line["AP"])
        line["config"], line["annotations"] = line["config"][:12], line["annotations"][:12]
        lines.append(line)
    header = list(lines[0])
    return [header] + [["" if x[k] is None else str(x[k]) for k in header] for x in lines]


def as_console(title: str, cells: Cells) -> Table:
    """A table for the terminal."""
    table = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for index, name in enumerate(cells[0]):
        if index:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    for line in cells[1:]:
        table.add_row(*line)
    return table


def in_full(rows: Sequence[Row], costs: Mapping[str, Cost]) -> list[dict[str, Any]]:
    """A line per row, unrounded fractions; the paper's figures in percent, as it prints them."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        gain = row.difference
        lines.append(
            {
                "row": row.label,
                "scheme": row.paper.get("scheme"),
                "seeds": " ".join(str(run.seed) for run in row.runs),
                **{name: row.means.get(name) for name in (*FIGURES, "PCK")},
                "AP_deviation": row.deviation,
                **{key: row.runs[0].metrics.get(key) for key in ("params", "gmacs")},
                **{key: row.runs[0].metrics.get("training", {}).get(key) for key in _TRAINING},
                **{f"relative_{k}": v for k, v in _costs(costs.get(row.label)).items()},
                "command": row.command,
                "gain": gain and gain.mean,
                "gain_low": gain and gain.low,
                "gain_high": gain and gain.high,
                **{
                    f"over_{one.over}{end}": value
                    for one in row.beside
                    for end, value in (("", one.mean), ("_low", one.low), ("_high", one.high))
                },
                **{f"AP_{part}": value for part, value in row.occlusion.items()},
                **{f"crowd_{part}": value for part, value in row.crowding.items()},
                **{f"joint_{part}": value for part, value in row.joints.items()},
                **{f"paper_{k}_percent": row.paper_levels.get(k) for k in ("AP", "AP50", "AP75")},
            }
        )
    return lines


def _costs(cost: Cost | None) -> dict[str, float]:
    return {} if cost is None else cost._asdict()
