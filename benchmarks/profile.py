"""Where the time of measured cases goes, by operator."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from benchmarks.device import Use, lines, traced
from kdpose.cli import console
from kdpose.display.tables import as_markdown
from kdpose.evaluation.timing import Case

_SHOWN = 14  # operators that have a row; the others share one
_COMPILED = "compiled graphs"
_OTHERS = "all others"
_NOTE = (
    "`Optimizer.step` is Lightning's closure, the whole step: its own time is Python's, between "
    "operators, in which a GPU waits.\n"
)
_DEVICE = (
    "Arithmetic: convolutions and matrix products; memory: all other kernels and copies; idle: "
    "nothing, between the first and the last. The profiler itself delays the host.\n"
)
Times = dict[str, float]


def profile(cases: Sequence[Case], folder: Path, name: str) -> None:
    """Write ``NAME_profile.md`` and ``.png``: milliseconds per unit by operator.

    Time is the operator's own, on the GPU where there is one; a further table then shows what the
    device does.  Cases that only serve as another's
    limit are left out.

    Args:
        cases: what :func:`kdpose.evaluation.timing.measure` took, so that all is warm.
        folder: made where it is not there.
        name: of what was measured.
    """
    limits = {case.limit for case in cases}
    groups: dict[str, dict[str, Times]] = {}
    uses: dict[str, Use] = {}
    for case in cases:
        if case.name not in limits:
            times, use = _operators(case)
            groups.setdefault(case.reference or case.name, {})[case.name] = times
            uses |= {case.name: use} if use else {}
    grouped = [_grouped(times) for times in groups.values()]
    folder.mkdir(parents=True, exist_ok=True)
    pages = [_table(times) for times in grouped]
    pages += [f"{as_markdown(lines(uses))}\n\n{_DEVICE}"] if uses else []
    (folder / f"{name}_profile.md").write_text("\n".join([*pages, _NOTE]))
    _picture(grouped).savefig(folder / f"{name}_profile.png", dpi=100, bbox_inches="tight")
    console.print(f"profiles in {folder.absolute()}")


def _operators(case: Case) -> tuple[Times, Use | None]:
    """Milliseconds per unit by operator, and what the device did, if there is one."""
    activities = [ProfilerActivity.CPU]
    device = torch.cuda.is_available()
    if device:
        activities.append(ProfilerActivity.CUDA)
    with torch_profile(activities=activities) as profiler:
        units = case.run()
    times: Times = {}
    for event in profiler.key_averages():
        name = _COMPILED if "CompiledFxGraph" in event.key else event.key
        times[name] = times.get(name, 0.0) + _own_time(event, device) / 1000 / units
    return times, traced(profiler.events(), units) if device else None


def _own_time(event: object, device: bool) -> float:
    """Microseconds."""
    name = "self_device_time_total" if device else "self_cpu_time_total"
    return float(getattr(event, name))


def _grouped(cases: dict[str, Times]) -> dict[str, Times]:
    """The operators that take most in any of the cases; the others as one."""
    largest: Times = {}
    for times in cases.values():
        for operator, ms in times.items():
            largest[operator] = max(ms, largest.get(operator, 0.0))
    shown = sorted(largest, key=largest.__getitem__, reverse=True)[:_SHOWN]
    return {
        name: {operator: times.get(operator, 0.0) for operator in shown}
        | {_OTHERS: sum(ms for operator, ms in times.items() if operator not in shown)}
        for name, times in cases.items()
    }


def _table(grouped: dict[str, Times]) -> str:
    names = list(grouped)
    operators = list(grouped[names[0]])
    lines = [["ms per unit, own time", *names]]
    for operator in operators:
        figures = [f"{grouped[name][operator]:.3f}" for name in names]
        lines.append([f"`{operator[:60]}`", *figures])
    lines.append(["together", *(f"{sum(grouped[name].values()):.3f}" for name in names)])
    return as_markdown(lines) + "\n"


def _picture(groups: Sequence[dict[str, Times]]) -> Figure:
    height = sum(4 + 0.4 * len(group) for group in groups)
    styles = _styles(dict.fromkeys(o for group in groups for o in next(iter(group.values()))))
    figure = Figure(figsize=(10, height), layout="constrained")
    for axes, group in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups, strict=True):
        names = list(group)[::-1]
        left = [0.0] * len(names)
        for operator in group[names[0]]:
            widths = [group[name][operator] for name in names]
            axes.barh(names, widths, left=left, label=operator[:40], **styles[operator])
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_xlabel("ms per unit")
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.15))
    return figure


def _styles(operators: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and hatch of each operator, the same wherever it is drawn."""
    named = [operator for operator in operators if operator != _OTHERS]
    looks = [
        {"color": f"C{n % 10}", "hatch": ("", "//", "..")[n // 10 % 3]} for n in range(len(named))
    ]
    return dict(zip(named, looks, strict=True)) | {_OTHERS: {"color": "lightgrey"}}
