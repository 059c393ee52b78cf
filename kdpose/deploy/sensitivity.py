"""Which layer groups may be integers: found by measurement on training crops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Save = Callable[[Path, dict[str, Any]], None]  # writes a network and its card
Loss = Callable[[tuple[str, ...]], float]  # AP lost, percent, with these groups in integers


@dataclass(frozen=True)
class Choice:
    """Which layer groups became integers, and what was measured on the way.

    Attributes:
        int8: groups in integers.
        loss: AP lost by the network with these groups in integers, percent.
        group_loss: AP lost where one group alone is in integers; empty where all could stay.
    """

    int8: tuple[str, ...]
    loss: float
    group_loss: dict[str, float]


@dataclass(frozen=True)
class Quantized:
    """A network in integers.

    Attributes:
        save: writes it.
        choice: the groups that became integers.
        groups: all layer groups.
        loss: AP lost with given groups in integers, on the training crops they were chosen by.
    """

    save: Save
    choice: Choice
    groups: list[str]
    loss: Loss

    @property
    def float_groups(self) -> list[str]:
        """The groups that stayed in float32."""
        return [group for group in self.groups if group not in self.choice.int8]


def choose_int8(
    loss: Loss,
    groups: Sequence[str],
    budget: float,
    always_table: bool = False,
) -> Choice:
    """Quantise all; while too much AP is lost, give the costliest group its floats back.

    Args:
        loss: AP lost, percent, with the given groups in integers.
        groups: all layer groups.
        budget: AP that may be lost.
        always_table: measure the groups one by one even where all of them may be integers.
    """
    chosen = tuple(groups)
    lost = loss(chosen)
    alone: dict[str, float] = {}
    if lost > budget or always_table:
        alone = group_losses(loss, groups)
    for worst in sorted(alone, key=lambda group: -alone[group]):
        if lost <= budget:
            break
        chosen = tuple(group for group in chosen if group != worst)
        lost = loss(chosen) if chosen else 0.0
    return Choice(chosen, lost, alone)


def group_losses(loss: Loss, groups: Sequence[str]) -> dict[str, float]:
    """AP lost, percent, by each group alone."""
    return {group: round(loss((group,)), 2) for group in groups}
