"""Figures that hold on a busy machine: cases in turn, round after round, as ratios of a round."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any, Literal

import psutil
import torch
from rich import box
from rich.progress import track
from rich.table import Table

from kdpose.cli import console
from kdpose.runtime.provenance import code_version

Clock = Literal["cpu", "wall", "children"]
_CLOCKS: dict[Clock, Callable[[], float]] = {
    "cpu": time.process_time,
    "wall": time.perf_counter,
    "children": lambda: sum(os.times()[2:4]),  # CPU time of processes that were started and ended
}
_LIBRARIES = (
    "torch", "torchvision", "numpy", "opencv-python-headless", "simplejpeg",
    "onnxruntime", "openvino", "nncf",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        name: unique.
        run: does it once and returns how many units it did.
        reference: name of the case that it is compared with, None for none.
        limit: name of the case that nothing of its kind can pass, None where none is known.
        cost: units of the limit's that one unit takes.
        facts: what is counted rather than measured, by column.
    """

    name: str
    run: Callable[[], float]
    reference: str | None = None
    limit: str | None = None
    cost: float = 1.0
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A case's figures: units per second, milliseconds of one, its ratios within the rounds."""

    name: str
    median: float
    ms: float
    min: float
    max: float
    unit: str
    reference: str | None
    ratio: float | None
    ratio_min: float | None
    ratio_max: float | None
    limit: str | None
    share: float | None
    facts: dict[str, float]


def measure(cases: Sequence[Case], repeats: int, clock: Clock, unit: str) -> list[Row]:
    """Run all cases in turn, ``repeats`` times, after one round that is not counted.

    A ratio is the median over rounds of two rates of the same round, so that what slows the
    machine for a while slows both.

    Raises:
        ValueError: fewer than one repeat, or a case refers to one that is not there.
    """
    names = {case.name for case in cases}
    named = [name for case in cases for name in (case.reference, case.limit) if name is not None]
    unknown = set(named) - names
    if repeats < 1 or unknown:
        raise ValueError(f"repeats must be >= 1 and cases known, got {repeats}, {sorted(unknown)}")
    now = _CLOCKS[clock]
    rates: dict[str, list[float]] = {case.name: [] for case in cases}
    turns = [(turn, case) for turn in range(repeats + 1) for case in cases]
    for turn, case in track(turns, "measuring", console=console, transient=True):
        begin = now()
        done = case.run()
        rate = done / max(now() - begin, 1e-9)
        if turn > 0:
            rates[case.name].append(rate)
    return [_row(case, rates, unit) for case in cases]


def _row(case: Case, rates: dict[str, list[float]], unit: str) -> Row:
    own = rates[case.name]
    ratios = _ratios(own, rates.get(case.reference or ""))
    shares = [case.cost * share for share in _ratios(own, rates.get(case.limit or ""))]
    return Row(
        name=case.name,
        median=median(own),
        ms=1000 / median(own),
        min=min(own),
        max=max(own),
        unit=unit,
        reference=case.reference,
        ratio=median(ratios) if ratios else None,
        ratio_min=min(ratios) if ratios else None,
        ratio_max=max(ratios) if ratios else None,
        limit=case.limit,
        share=median(shares) if shares else None,
        facts=dict(case.facts),
    )


def _ratios(own: Sequence[float], other: Sequence[float] | None) -> list[float]:
    return [a / b for a, b in zip(own, other, strict=True)] if other else []


def table(title: str, rows: Sequence[Row]) -> Table:
    """The figures for a terminal."""
    shown = Table(title=title, box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    head, *lines = cells(rows)
    shown.add_column(head[0], overflow="fold")
    for name in head[1:]:
        shown.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    return shown


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The figures as text: a line of column names, then one per row."""
    facts = list(dict.fromkeys(name for row in rows for name in row.facts))
    limit = ["of limit"] if any(row.share is not None for row in rows) else []
    lines = [["", rows[0].unit, "min-max", "ms", "ratio", "min-max", *limit, *facts]]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        spread = "" if row.ratio is None else f"{row.ratio_min:.2f}-{row.ratio_max:.2f}"
        share = "" if row.share is None else f"{100 * row.share:.0f} %"
        extremes = f"{_short(row.min)}-{_short(row.max)}"
        figures = [_short(row.median), extremes, _short(row.ms), ratio, spread]
        figures += [share for _ in limit]
        counted = [_short(row.facts[name]) if name in row.facts else "" for name in facts]
        lines.append([row.name, *figures, *counted])
    return lines


def _short(value: float) -> str:
    """Three digits, all of a greater number's."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def report(what: str, rows: Sequence[Row], clock: Clock, **about: Any) -> dict[str, Any]:
    """All that a figure depends on, as plain values."""
    return {
        "what": what,
        "clock": clock,
        "rows": [asdict(row) for row in rows],
        "about": about,
        "machine": {
            "processor": _processor(),
            "instructions": _instructions(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load": list(psutil.getloadavg()),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.platform(),
        },
        "code": code_version(),
        "versions": {"python": platform.python_version()} | dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):  # some are of extras
            yield name, version(name)


def _instructions() -> str:
    """The widest of the processor that torch uses, and whether it multiplies tiles."""
    tiles = ", AMX" if torch.cpu._is_amx_tile_supported() else ""
    return torch.backends.cpu.get_cpu_capability() + tiles


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
