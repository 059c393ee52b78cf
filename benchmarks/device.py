"""What a GPU does while a case runs: arithmetic, moving memory, or waiting to be told."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_ARITHMETIC = re.compile(
    r"gemm|conv|cudnn|cutlass|xmma|wgrad|dgrad|fprop|mma|nvjet|triton_tem|triton_mm", re.IGNORECASE
)
_COPY = re.compile(r"memcpy|memset", re.IGNORECASE)
_LAUNCH = re.compile(r"^(cuda|cu)(Graph)?(Launch|Memcpy|Memset)")
Span = tuple[str, float, float]


@dataclass(frozen=True)
class Use:
    """Of one unit of a case.

    Attributes:
        launches: calls of the host that start work on the device.
        kernels: pieces of work that the device did.
        arithmetic: milliseconds in convolutions and matrix products.
        memory: milliseconds in all other kernels, which wait for memory, copies included.
        idle: milliseconds between the first and the last in which the device did nothing.
        busy: share of that time in which it did something.
    """

    launches: float
    kernels: float
    arithmetic: float
    memory: float
    idle: float
    busy: float


def device_use(kernels: Sequence[Span], launches: int, units: float) -> Use | None:
    """Sum up what was traced.

    Args:
        kernels: name, begin and end in microseconds of all that ran on the device.
        launches: of the host.
        units: that the run did.

    Returns:
        None where nothing ran on a device.
    """
    if not kernels:
        return None
    arithmetic = sum(e - b for n, b, e in kernels if _ARITHMETIC.search(n) and not _COPY.search(n))
    whole = max(e for _, _, e in kernels) - min(b for _, b, _ in kernels)
    covered = _covered((b, e) for _, b, e in kernels)
    total = sum(e - b for _, b, e in kernels)
    ms = 1000 * units
    return Use(
        launches=launches / units,
        kernels=len(kernels) / units,
        arithmetic=arithmetic / ms,
        memory=(total - arithmetic) / ms,
        idle=(whole - covered) / ms,
        busy=covered / max(whole, 1e-9),
    )


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def traced(events: Iterable[Any], units: float) -> Use | None:
    """The use that a profiler's events tell of.

    Args:
        events: of ``torch.profiler.profile.events()``.
        units: that the run did.
    """
    listed = list(events)
    kernels = [
        (event.name, float(event.time_range.start), float(event.time_range.end))
        for event in listed
        if event.device_type.name == "CUDA"
    ]
    return device_use(kernels, sum(bool(_LAUNCH.match(event.name)) for event in listed), units)


def lines(uses: dict[str, Use]) -> list[list[str]]:
    """The uses of some cases as cells, header first."""
    header = ["per unit", "launches", "kernels", "ms arithmetic", "ms memory", "ms idle", "busy"]
    rows = []
    for name, use in uses.items():
        counts = [f"{value:.3g}" for value in (use.launches, use.kernels)]
        times = [f"{value:.4f}" for value in (use.arithmetic, use.memory, use.idle)]
        rows.append([name, *counts, *times, f"{100 * use.busy:.0f} %"])
    return [header, *rows]
