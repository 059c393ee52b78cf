"""``what=gpu``: the parts in order of worth, each within what is left of the time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks.gpu import busy, toy, travel
from benchmarks.gpu.page import write_page
from benchmarks.gpu.part import STOPPED, Part, Places, environment, last_line, run_command
from benchmarks.gpu.report import Report
from benchmarks.gpu.runs import trainings
from kdpose.cli import console
from kdpose.runtime.provenance import code_version

_MARGIN = 30.0  # seconds in which a stopped training writes its checkpoint, and the page is made
_SAMPLES = "busy.csv"


@dataclass(frozen=True)
class Campaign:
    """What is run, where, and for how long.

    Attributes:
        parts: by name, in order of worth, see :meth:`Part.read`.
        folder: of data, runs, logs and compiled code, which stay for the next command.
        minutes: that all of it may take.
        part: the name or names of those to run; None: all.
        pack: folder that ``what=gpu_pack`` wrote; None: the data are in ``folder`` already.
        earlier: folder with what an earlier campaign wrote to ``bring``.
        bring: folder that gets all that must leave the machine, after every part.
        synthetic: draw tiny data of the same layout, and do without a GPU.
    """

    parts: Mapping[str, Mapping[str, Any]]
    folder: str
    minutes: float
    part: str | Sequence[str] | None = None
    pack: str | None = None
    earlier: str | None = None
    bring: str | None = None
    synthetic: bool = False


def run(out: str | None, scratch: str | None, command: str, **values: Any) -> Table:
    """Run the parts that are not done, and write report and page after each.

    Args:
        out: ``report.json``; what is in it is not done again.
        scratch: not needed.
        command: that started the campaign, for the report.
        values: of :class:`Campaign`.

    Returns:
        The state of all parts, for a terminal.

    Raises:
        ValueError: ``out`` is missing, a part is unknown, there is no GPU, or a part failed.
    """
    asked, begun = Campaign(**values), time.monotonic()
    if not out:
        raise ValueError("what=gpu needs out=FOLDER/report.json: it continues from there")
    here = Places(Path(asked.folder).absolute(), Path(out).parent)
    if asked.earlier:
        travel.restore(Path(asked.earlier), here)
    report = Report(Path(out), command, _made_by(asked.pack))
    parts = {name: Part.read(name, fields, here) for name, fields in asked.parts.items()}
    chosen = _chosen(parts, asked.part)
    console.print(_plan(chosen, report, asked.minutes))
    write_page(report, asked.parts)
    if any(_why_not(one, report, asked.minutes) is None for one in chosen):
        _prepare(here, asked.pack, asked.synthetic)
    end = begun + 60 * asked.minutes
    states = {one.name: _run_part(one, here, report, end, asked) for one in chosen}
    failed = [name for name, state in states.items() if state == "failed"]
    if failed:
        logs = ", ".join(str(_log(here, name)) for name in failed)
        raise ValueError(f"{', '.join(failed)} failed, see {logs}; the same command tries again")
    return _plan(chosen, report, (end - time.monotonic()) / 60)


def _made_by(pack: str | None) -> dict[str, Any]:
    """The device and the commit; the pack names the commit where there is no checkout."""
    commit = code_version()["commit"] or (travel.about(Path(pack)).get("commit") if pack else None)
    return {"device": busy.gpu_name() or "cpu", "commit": commit}


def _chosen(parts: dict[str, Part], names: str | Sequence[str] | None) -> list[Part]:
    """The named parts, in the campaign's order."""
    wanted = [names] if isinstance(names, str) else list(names or parts)
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        raise ValueError(
            f"what.campaign.part has no {', '.join(unknown)}: there are {', '.join(parts)}"
        )
    return [part for name, part in parts.items() if name in wanted]


def _prepare(here: Places, pack: str | None, synthetic: bool) -> None:
    """See to a device and to data."""
    if synthetic:
        toy.draw(here.data)
        return
    if not torch.cuda.is_available():
        raise ValueError(
            "what=gpu needs a GPU, and torch finds none: what=gpu_toy tries its parts on a CPU"
        )
    if pack:
        travel.unpack(Path(pack), here)


def _needed(part: Part, report: Report) -> tuple[float, float]:
    """Minutes that a part still takes, and without which it is not started."""
    rest = max(part.minutes - report.of(part)["minutes"], 1.0)
    return rest, min(part.least, rest)


def _why_not(part: Part, report: Report, left: float) -> str | None:
    """Why a part is not run; None where it is."""
    if report.of(part)["status"] == "done":
        return "done already"
    _, least = _needed(part, report)
    return None if least <= left else f"left out: {least:g} min do not fit the {left:.1f} left"


def _plan(parts: Sequence[Part], report: Report, left: float) -> Table:
    """What will be run, in order."""
    table = Table("part", "what", "minutes", "state")
    for part in parts:
        rest, _ = _needed(part, report)
        why = _why_not(part, report, left)
        status = report.of(part)["status"]
        table.add_row(part.name, part.title, f"{part.minutes:g}", why or f"{status}, {rest:g} min")
        left -= 0.0 if why else min(rest, left)
    return table


def _log(here: Places, name: str) -> Path:
    return here.folder / "logs" / f"{name}.log"


def _run_part(part: Part, here: Places, report: Report, end: float, asked: Campaign) -> str:
    """Run a part, and write what became of it; returns that."""
    if why := _why_not(part, report, (end - time.monotonic()) / 60):
        console.print(f"{part.name}: {why}", highlight=False)
        return "skipped"
    begun, before = time.monotonic(), report.of(part)["minutes"]
    samples, status, said = here.folder / _SAMPLES, "stopped", ""
    try:
        with busy.sampled(samples):
            status, said = _run_commands(part, here, end)
    finally:  # also where this process is stopped
        minutes = before + (time.monotonic() - begun) / 60
        runs = trainings(here.folder / "runs" / part.runs, busy.samples(samples))
        report.put(part, status, minutes, said=said, runs=runs)
        write_page(report, asked.parts)
    console.print(f"{part.name}: {status} after {minutes:.1f} min. {said}", highlight=False)
    if asked.bring:
        travel.bring(here, Path(asked.bring))
    return status


def _run_commands(part: Part, here: Places, end: float) -> tuple[str, str]:
    """What became of a part's commands, and what one that failed said last."""
    log = _log(here, part.name)
    for words in part.commands:
        console.print(f"{part.name}: kdpose {' '.join(words[:3])} ...", highlight=False)
        code = run_command(words, environment(part, here), log, end - _MARGIN)
        if code:
            return ("stopped", "") if code == STOPPED else ("failed", last_line(log))
    return "done", ""
