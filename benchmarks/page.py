"""A benchmark's figures as a page to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from kdpose.display.tables import as_markdown
from kdpose.evaluation.timing import Row, cells


def page(
    title: str, rows: Sequence[Row], figures: Mapping[str, Any], command: str, note: str | None
) -> str:
    """Markdown: the table, then all that its figures depend on.

    Args:
        title: of the table.
        rows: the figures.
        figures: of :func:`kdpose.evaluation.timing.report`.
        command: that made them.
        note: what a reader must know of the columns.
    """
    machine, code = figures["machine"], figures["code"]
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    load = ", ".join(f"{value:.1f}" for value in machine["load"])
    busy = machine["load"][0] > machine["threads"] + 0.5
    return "\n".join(
        [
            f"# {title}",
            "",
            as_markdown(cells(rows)),
            "",
            *([f"- {note}"] if note else []),
            f"- Made by `{command}`",
            f"- {figures['about']['repeats']} rounds of all cases in turn, {figures['clock']} "
            "time; medians, and ratios of two rates of the same round.",
            f"- {machine['gpu'] or machine['processor']}, {machine['cores']} cores "
            f"({machine['instructions']}), "
            f"{machine['threads']} thread(s) used; load {load}"
            + (": other work ran beside, trust the ratios." if busy else "."),
            f"- kdpose {code['version']}, commit {code['commit']}"
            f"{' with changes' if code['dirty'] else ''}; {versions}.",
            "",
        ]
    )
