"""The campaign's report as a page: goals beside what was measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import Report
from kdpose.display.tables import as_markdown
from kdpose.runtime.whole import write_whole

_NONE = "not measured"
_FAST = "compiled, bfloat16"
_HEAD = """# On one GPU

What `make gpu-campaign` has measured, in the campaign's order of worth
([how to run it](../../docs/train.md#half-an-hour-of-one-gpu)). The command writes this page; a
part that has no figures here has not been run.
"""


def write_page(report: Report, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``README.md`` beside the report.

    Args:
        report: of the campaign.
        parts: all of the configuration, of which each has ``title`` and ``minutes``.
    """
    folder = report.path.parent
    sections = [
        _HEAD,
        f"{as_markdown([['goal', 'aim', 'measured'], *_goals(folder, report)], 2)}\n",
        f"{as_markdown(_states(report, parts), 3)}\n",
        _trainings(report),
        _links(folder),
    ]
    write_whole(folder / "README.md", "\n".join(section for section in sections if section))


def _goals(folder: Path, report: Report) -> list[list[str]]:
    step = folder / "step.json"
    known = json.loads(step.read_bytes())["rows"] if step.is_file() else []
    rows = {row["name"]: row for row in known}
    first, second = (rows.get(f"stage {number}: {_FAST}") for number in (1, 2))
    busy = _busy(report)
    return [
        ["stage 1, compiled in bfloat16, against plain in tf32", "2.5 times",
         f"{first['ratio']:.2f} times" if first else _NONE],
        ["stage 1, samples a second", "3,000 on an H200",
         f"{first['median']:,.0f}" if first else _NONE],
        ["stage 2 against stage 1", "3 times",
         f"{second['median'] / first['median']:.2f} times" if first and second else _NONE],
        ["share of the time that the device is busy, resident pack", "95 %",
         _NONE if busy is None else f"{100 * busy:.0f} %"],
    ]  # fmt: skip


def _busy(report: Report) -> float | None:
    """Of stage 1 on the resident pack, or of another training there."""
    runs = report.parts.get("rows", {}).get("runs", [])
    known = [run for run in runs if run["busy"] is not None]
    first = [run for run in known if "stage1" in run["run"]] or known
    return float(first[0]["busy"]) if first else None


def _states(report: Report, parts: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    lines = [["part", "what", "state", "minutes", "expected", "device", "commit"]]
    for name, values in parts.items():
        record = report.parts.get(name)
        line = [name, str(values["title"]), _NONE, "", f"{values['minutes']:g}", "", ""]
        if record:
            commit = str(record["commit"] or "")[:12]
            minutes, expected = f"{record['minutes']:.1f}", f"{record['expected']:g}"
            line[2:] = [record["status"], minutes, expected, record["device"], commit]
        lines.append(line)
    return lines


def _trainings(report: Report) -> str:
    """The trainings of all parts."""
    lines = [["training", "epochs", "minutes", "AP", "persons/s", "busy, median", "busy, mean"]]
    for name, record in report.parts.items():
        for run in record["runs"]:
            minutes = f"{run['seconds'] / 60:.1f}" if run["finished"] else "unfinished"
            figures = (_percent(run.get(key)) for key in ("AP", "busy", "busy_mean"))
            score, middle, whole = figures
            rate = "" if run["rate"] is None else f"{run['rate']:,.0f}"
            epochs = str(run["epochs"])
            lines.append([f"{name}: {run['run']}", epochs, minutes, score, rate, middle, whole])
    if len(lines) == 1:
        return ""
    note = (
        "AP in percent on the data set's validation split. Persons a second: the median over the "
        "epochs, without validation and without the first, which compiles. Busy: of the driver's "
        "samples within the same epochs."
    )
    return f"{as_markdown(lines)}\n\n{note}\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _links(folder: Path) -> str:
    """The tables that benchmarks wrote beside the page."""
    names = [p.name for p in sorted(folder.glob("*.md")) if p.name != "README.md"]
    return f"Tables: {', '.join(f'[{n[:-3]}]({n})' for n in names)}.\n" if names else ""
