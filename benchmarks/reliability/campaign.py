"""``what=reliability``: all parts, each continued from what was found before."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.reliability import commands, faults, kills, mutated, soak
from benchmarks.reliability.page import write_page
from benchmarks.reliability.records import Records
from kdpose.runtime.provenance import code_version

_Part = Callable[[Path], None]


def run(
    out: str | None,
    scratch: str | None,
    command: str,
    seed: int,
    counts: Mapping[str, float],
    targets: Sequence[str],
) -> Table:
    """Run the campaign up to the counts, and write the report and the page beside it.

    Args:
        out: ``report.json``; what is in it is not done again.
        scratch: folder for data and runs; None: a temporary one.
        command: that started it, for the page.
        seed: of all random choices.
        counts: how many ``kills``, ``mutations`` and ``faults``, and ``minutes`` of soak.
        targets: the commands that are killed.

    Returns:
        The counts, for a terminal.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of what the commands start
    records = _records(out, seed)
    commands.warm_up()
    parts: dict[str, _Part] = {
        "kills": lambda here: kills.kill_all(
            records, here, int(counts["kills"]), seed, list(targets)
        ),
        "mutations": lambda here: mutated.mutate_all(records, here, int(counts["mutations"]), seed),
        "faults": lambda here: faults.make_all(records, here, int(counts["faults"])),
        "soak": lambda here: soak.soak(records, here, counts["minutes"]),
    }
    with tempfile.TemporaryDirectory(prefix="kdpose-reliability-", dir=scratch) as folder:
        for part in parts.values():
            part(Path(folder))
    found = {part: _counts(records, part) for part in parts}
    records.summarise(command, found)
    write_page(records, found, command)
    return _table(found)


def _records(out: str | None, seed: int) -> Records:
    """What was found before.

    Raises:
        ValueError: ``out`` is missing, or of a campaign of another seed.
    """
    if not out:
        raise ValueError("what=reliability needs out=FOLDER/report.json: it continues from there")
    return Records(Path(out), seed, str(code_version()["commit"])[:12])


def _counts(records: Records, part: str) -> dict[str, int]:
    """How many there are, and how many faults of each kind."""
    wrong = [text for _, record in records.faults(part) for text in _split(record)]
    kinds = Counter(_kind(part, text) for text in wrong)
    return {"all": len(records.part(part)), **dict(sorted(kinds.items()))}


def _split(record: dict[str, Any]) -> list[str]:
    return str(record["fault"]).split("; ") if "commands" in record else [str(record["fault"])]


def _kind(part: str, text: str) -> str:
    """The kind of a fault, without command and figures."""
    if part == "mutations":
        text = text.partition(": ")[2]
    return text.partition(":")[0] if part in ("kills", "mutations") else "wrong"


def _table(counts: dict[str, dict[str, int]]) -> Table:
    table = Table("part", "tried", "what went wrong")
    for part, found in counts.items():
        wrong = ", ".join(f"{number} {kind}" for kind, number in found.items() if kind != "all")
        table.add_row(part, str(found["all"]), wrong or "nothing")
    return table
