"""The campaign's report as a page, with its figures."""

from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.reliability.records import Records
from kdpose.display.tables import as_markdown
from kdpose.runtime.whole import write_whole

Counts = dict[str, dict[str, int]]
WANTED = {"kills": 100, "mutations": 600, "minutes": 30.0}
_HEAD = """# Reliability

What kdpose does when it is killed, when files are damaged and when machines fail. Everything runs
on tiny synthetic data on a CPU, seeded; `report.json` has the counts, the `.jsonl` files every
trial.
"""
_KILLS = """## Kills

A command gets KILL, TERM or INT (one time in five twice in a row): half of them at a random moment,
half of them when it opens, renames or writes a file, mostly a checkpoint. The same command is then
repeated, a training with `resume=auto`. *Lost*: it does not end, or a result is missing.
*Different*: `best.ckpt`'s tensors, the metrics, the predictions or the pack are not, bit for bit,
those of an uninterrupted run. Of a search, all trials must be complete.
"""
_MUTATIONS = """## Mutations

One thing is changed in annotations, results, detections, pictures, their names, a video, a
skeleton, a checkpoint or a command's values; then those of doctor, convert, evaluate, predict,
pack and train that read such files run on it. *Neutral* changes mean nothing: figures must be
equal. *Silent loss*: fewer persons than before with status 0, and nothing said. *Slow*: more than
10 s of processor time; *memory*: more than 2 GB.
"""


def write_page(records: Records, counts: Counts, command: str) -> None:
    """Write ``README.md`` beside the report, and the soak's curve.

    Args:
        records: of the campaign.
        counts: of the parts, see :mod:`benchmarks.reliability.campaign`.
        command: that made them.
    """
    folder = records.path.parent
    commits = sorted({r["commit"] for part in counts for r in records.part(part).values()})
    parts = [
        _HEAD,
        _overview(counts),
        _missing(records, counts),
        _KILLS,
        _kills(records),
        _list(records, "kills"),
        _MUTATIONS,
        _mutations(records),
        _list(records, "mutations"),
        _faults(records),
        _soak(records, folder),
        f"Made by `{command}` and repetitions of it; commits {', '.join(commits)}.",
    ]
    write_whole(folder / "README.md", "\n".join(part for part in parts if part) + "\n")


def _overview(counts: Counts) -> str:
    rows = [["part", "tried", "wrong"]]
    for part, found in counts.items():
        wrong = [f"{number} {kind}" for kind, number in found.items() if kind != "all"]
        rows.append([part, str(found["all"]), ", ".join(wrong) or "0"])
    return f"{as_markdown(rows)}\n"


def _missing(records: Records, counts: Counts) -> str:
    """What is not reached yet."""
    left = [
        f"{WANTED[part] - counts[part]['all']:.0f} of {WANTED[part]:.0f} {part}"
        for part in ("kills", "mutations")
        if counts[part]["all"] < WANTED[part]
    ]
    minutes = records.part("soak").get("predict", {}).get("minutes", 0)
    if minutes < WANTED["minutes"]:
        left.append(f"{WANTED['minutes'] - minutes:.0f} of {WANTED['minutes']:.0f} minutes of soak")
    left.append("a GPU that runs out of memory (no GPU here)")
    return f"Not reached yet: {'; '.join(left)}.\n"


def _kills(records: Records) -> str:
    """Kills by command and signal."""
    rows = [["command", "killed", "KILL", "TERM", "INT", "in a write", "wrong"]]
    by_target: dict[str, list[dict[str, Any]]] = {}
    for record in records.part("kills").values():
        by_target.setdefault(record["target"], []).append(record)
    for name, found in by_target.items():
        told = [kill for record in found for kill in record["kills"]]
        by = Counter(kill["by"] for kill in told)
        writes = sum(not kill["at"].endswith(" s") for kill in told)
        wrong = sum(bool(record["fault"]) for record in found)
        signals = [str(by[signal]) for signal in ("KILL", "TERM", "INT")]
        rows.append([name, str(len(found)), *signals, str(writes), str(wrong)])
    return f"{as_markdown(rows)}\n"


def _mutations(records: Records) -> str:
    """Mutations by kind, and what the commands did."""
    rows = [["kind", "tried", "neutral", "taken", "refused", "answers differ", "wrong"]]
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for record in records.part("mutations").values():
        by_kind.setdefault(record["kind"], []).append(record)
    for kind, found in sorted(by_kind.items()):
        ends = Counter(c["end"] for record in found for c in record["commands"].values())
        numbers = [
            len(found),
            sum(record["neutral"] for record in found),
            ends["taken"],
            ends["refused"],
            sum(record["answers_differ"] for record in found),
            sum(bool(record["fault"]) for record in found),
        ]
        rows.append([kind, *map(str, numbers)])
    note = "*Taken*, *refused*: commands. *Answers differ*: one takes what another refuses."
    return f"{as_markdown(rows)}\n\n{note}\n"


def _list(records: Records, part: str) -> str:
    """Each that went wrong."""
    lines = [f"- `{key}`: {record['fault']}" for key, record in records.faults(part)]
    return "\n".join([*lines, ""]) if lines else ""


def _faults(records: Records) -> str:
    rows = [["fault", "outcome", "last line"]]
    for name, record in records.part("faults").items():
        said = record["said"][:160].replace("|", "/")
        rows.append([name, record["fault"] or "as it should be", said])
    return f"## Machines\n\n{as_markdown(rows)}\n" if len(rows) > 1 else ""


def _soak(records: Records, folder: Path) -> str:
    """The figures of the soak, and its curve as a picture."""
    record = records.part("soak").get("predict")
    if not record:
        return ""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3))
    axes.plot(*zip(*record["curve"], strict=True))
    axes.set(
        xlabel="minutes",
        ylabel="memory of the process, MB",
        ylim=(0, 1.2 * record["peak_megabytes"]),
    )
    figure.tight_layout()
    figure.savefig(folder / "soak.png", dpi=100)
    pyplot.close(figure)
    return (
        f"## Soak\n\n`kdpose predict` {record['rounds']} times in one process, "
        f"{record['minutes']:g} minutes: peak {record['peak_megabytes']} MB, growth after the "
        f"first fifth {record['growth_megabytes']} MB.\n\n![memory](soak.png)\n"
    )
