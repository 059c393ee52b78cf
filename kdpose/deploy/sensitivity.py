"""Choose the layer groups to quantise by measurement on the calibration's persons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track


class Cost(NamedTuple):
    """The cost of integers on the calibration's persons.

    Attributes:
        ap: lost, percent; None without labels.
        px: mean distance of joints, crop pixels.
        share: 95th percentile of the drawn joints' distances, in sizes of their persons.
    """

    ap: float | None
    px: float
    share: float

    @property
    def distance(self) -> tuple[float, float]:
        """By which groups are ranked: that of the drawn joints, then that of all."""
        return self.share, self.px

    def within(self, ap: float | None, share: float | None) -> bool:
        """Whether it is no more than two budgets allow; None: anything is allowed."""
        dear = ap is not None and self.ap is not None and self.ap > ap
        return not dear and (share is None or self.share <= share)


Save = Callable[[Path, dict[str, Any]], None]  # writes a network and its card
Measure = Callable[[tuple[str, ...]], Cost]  # with these groups in integers


@dataclass(frozen=True)
class Choice:
    """The quantised layer groups, and the measurements behind the choice.

    Attributes:
        int8: groups in integers.
        cost: of the network with these groups in integers.
        alone: cost of each group alone; empty if all of them could become integers.
    """

    int8: tuple[str, ...]
    cost: Cost
    alone: dict[str, Cost]


@dataclass(frozen=True)
class Quantized:
    """A network in integers.

    Attributes:
        save: writes it.
        choice: the groups that became integers.
        groups: all layer groups.
        measure: the cost of given groups on the calibration's persons.
    """

    save: Save
    choice: Choice
    groups: list[str]
    measure: Measure

    @property
    def float_groups(self) -> list[str]:
        """The groups that stayed in float32."""
        return [group for group in self.groups if group not in self.choice.int8]


def choose_int8(
    measure: Measure,
    groups: Sequence[str],
    affordable: Callable[[Cost], bool],
    always_table: bool = False,
) -> Choice:
    """Quantise all groups; while that costs too much, return the costliest one to float.

    The costliest group is the one that moves the drawn joints most on its own, because AP on a
    few hundred persons is too noisy to compare groups.

    Args:
        measure: the cost of given groups in integers.
        groups: all layer groups.
        affordable: whether a cost may be paid.
        always_table: measure the groups one by one even if all can be integers.
    """
    chosen = tuple(groups)
    cost = measure(chosen)
    alone: dict[str, Cost] = {}
    if not affordable(cost) or always_table:
        alone = group_costs(measure, groups)
    for worst in sorted(alone, key=lambda group: alone[group].distance, reverse=True):
        if affordable(cost):
            break
        chosen = tuple(group for group in chosen if group != worst)
        cost = measure(chosen) if chosen else Cost(0.0, 0.0, 0.0)
    return Choice(chosen, cost, alone)


def group_costs(measure: Measure, groups: Sequence[str]) -> dict[str, Cost]:
    """The cost of each group alone."""
    own = Console()  # not rich's shared console, which quantisers write to
    shown = track(groups, "int8, a layer group at a time", transient=True, console=own)
    return {group: measure((group,)) for group in shown}
