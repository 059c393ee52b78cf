"""Where the time of measured cases goes, by operator."""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from kdpose.benchmarks.frame import Case
from kdpose.cli import console

_SHOWN = 14  # operators that have a row; the others share one
Times = dict[str, float]


def profile(cases: Sequence[Case], folder: Path, name: str) -> None:
    """Write ``NAME_profile.md`` and ``.png``: milliseconds per unit by operator.

    Time is the operator's own, on the GPU where there is one.  Cases that only serve as another's
    limit are left out.

    Args:
        cases: what :func:`kdpose.benchmarks.frame.measure` took, so that all is warm.
        folder: made where it is not there.
        name: of what was measured.
    """
    limits = {case.limit for case in cases}
    times = {case.name: _operators(case) for case in cases if case.name not in limits}
    largest: Times = {}
    for case in times.values():
        for operator, ms in case.items():
            largest[operator] = max(ms, largest.get(operator, 0.0))
    shown = sorted(largest, key=largest.__getitem__, reverse=True)[:_SHOWN]
    grouped = {case: _grouped(own, shown) for case, own in times.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_profile.md").write_text(_table(grouped))
    _picture(grouped).savefig(folder / f"{name}_profile.png", dpi=110, bbox_inches="tight")
    console.print(f"profiles in {folder.absolute()}")


def _operators(case: Case) -> Times:
    activities = [ProfilerActivity.CPU]
    device = torch.cuda.is_available()
    if device:
        activities.append(ProfilerActivity.CUDA)
    with torch_profile(activities=activities) as profiler:
        units = case.run()
    return {
        event.key: ms
        for event in profiler.key_averages()
        if (ms := _own_time(event, device) / 1000 / units) > 0
    }


def _own_time(event: object, device: bool) -> float:
    """Microseconds."""
    name = "self_device_time_total" if device else "self_cpu_time_total"
    return float(getattr(event, name))


def _grouped(times: Times, shown: Sequence[str]) -> Times:
    rest = sum(ms for operator, ms in times.items() if operator not in shown)
    return {operator: times.get(operator, 0.0) for operator in shown} | {"all others": rest}


def _table(grouped: dict[str, Times]) -> str:
    names = list(grouped)
    operators = list(grouped[names[0]])
    lines = [["ms per unit, own time", *names], ["---"] + ["---:"] * len(names)]
    for operator in operators:
        figures = [f"{grouped[name][operator]:.3f}" for name in names]
        lines.append([f"`{operator[:60]}`", *figures])
    lines.append(["together", *(f"{sum(grouped[name].values()):.3f}" for name in names)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _picture(grouped: dict[str, Times]) -> Figure:
    figure = Figure(figsize=(10, 1 + 0.5 * len(grouped)))
    axes = figure.add_subplot()
    names = list(grouped)[::-1]
    left = [0.0] * len(names)
    hatches = ("", "//", "..")  # ten colours, fifteen operators
    for number, operator in enumerate(grouped[names[0]]):
        widths = [grouped[name][operator] for name in names]
        axes.barh(names, widths, left=left, label=operator[:45], hatch=hatches[number // 10])
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_xlabel("ms per unit")
    axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.25))
    return figure
