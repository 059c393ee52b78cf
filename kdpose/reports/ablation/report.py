"""Collate the runs of an ablation into one report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from kdpose.cli import console
from kdpose.display.tables import as_markdown, write_csv
from kdpose.reports.ablation import figures, tables
from kdpose.reports.ablation.collect import Run, by_row, collect_runs
from kdpose.reports.ablation.costs import Cost, Times
from kdpose.reports.ablation.measure import Measured, Split, measure, read_split
from kdpose.reports.ablation.peers import peers_table, read_peers
from kdpose.reports.ablation.rows import Bootstrap, Row, make_rows

_Section = tuple[str, tables.Cells, str]  # title, table, note


def write_report(cfg: DictConfig) -> list[Row]:
    """Measure all runs and write ``report.md``, ``report.csv``, ``report.png`` and pictures.

    Returns:
        The table's rows.

    Raises:
        FileNotFoundError: there are no runs, costs or peers, or the runs' annotations are gone.
        ValueError: runs or peers do not compare, or a key names something that is not there.
    """
    folders = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs)
    times = Times.read(Path(cfg.costs)) if cfg.costs else None
    paper: Any = OmegaConf.to_container(cfg.paper)
    grouped = by_row(collect_runs(folders), list(paper), cfg.labels)
    runs = [run for members in grouped.values() for run in members]
    split = read_split(runs[0], instantiate(runs[0].config.dataset.skeleton, _convert_="all"))
    peers = read_peers(cfg.peers, runs[0], split)
    measured = {
        run.name: measure(run, split)
        for run in track(runs, "measuring", console=console, transient=True)
    }
    rows = make_rows(
        grouped,
        {label: [measured[run.name] for run in members] for label, members in grouped.items()},
        baseline=cfg.baseline,
        controls={str(label): list(others) for label, others in cfg.controls.items()},
        paper=paper,
        bootstrap=Bootstrap(cfg.resamples, cfg.confidence, cfg.seed),
    )
    out = Path(cfg.out or Path(folders[0]) / "report")
    out.mkdir(parents=True, exist_ok=True)
    costs = times.costs(rows, cfg.baseline) if times else {}
    figures.draw_all(rows, costs, cfg.confidence, out)
    caption = _compare(cfg, runs, measured, split, out) if cfg.compare else None
    write_csv(out / "report.csv", tables.in_full(rows, costs))
    sections = _sections(cfg, rows, costs, split, peers_table(peers, rows, split))
    (out / "report.md").write_text(_markdown(sections, bool(costs), caption))
    console.print(tables.as_console(sections[0][0], tables.narrow(sections[0][1])))
    console.print(f"report in {out.absolute()}")
    return rows


def _compare(
    cfg: DictConfig, runs: list[Run], measured: dict[str, Measured], split: Split, out: Path
) -> str:
    """Draw the comparison; returns its caption, which says how the images were chosen."""
    named = {run.name: run for run in runs}
    unknown = [name for name in cfg.compare if name not in named]
    if unknown or len(cfg.compare) != 2:
        raise ValueError(f"compare must be two of {sorted(named)}, got {list(cfg.compare)}")
    above, below = (named[name] for name in cfg.compare)
    pair = (measured[above.name], measured[below.name])
    if cfg.images == "auto":
        shown = figures.choose_images(*pair, cfg.gains, cfg.random, cfg.seed)
        gains = shown.reasons.count("largest gain")
        how = (
            f"the first {gains} are those of {len(split.images)} on which {below.name} gains most "
            f"OKS over {above.name}, so they flatter it; the last {len(shown.rows) - gains} were "
            f"drawn at random (seed {cfg.seed})"
        )
    else:
        shown = figures.named_images(split, list(cfg.images))
        how = "they were chosen by hand (images=...)"
    figures.draw_comparison((above, below), pair, split, shown, out / "comparison.png")
    return f"{above.name} above, {below.name} below, a colour per person. Of the images, {how}."


def _title(split: Split, rows: list[Row]) -> str:
    """What was scored, and how."""
    first = next((row for row in rows if row.difference is None), rows[0]).runs[0].metrics
    boxes = "ground-truth boxes" if first["box_source"] == "gt" else Path(first["box_source"]).name
    width, height = first["input_size"]
    return (
        f"{rows[0].runs[0].config.name.split('/')[0]}, {width}x{height} crops, {first['split']}: "
        f"{first['persons']} persons in {first['images']} images, {boxes}, "
        f"flip test {'on' if first['flip'] else 'off'}, {first['protocol']} protocol"
    )


def _sections(
    cfg: DictConfig,
    rows: list[Row],
    costs: Mapping[str, Cost],
    split: Split,
    peers: tables.Cells,
) -> list[_Section]:
    runs = [run for row in rows for run in row.runs]
    return [
        (_title(split, rows), tables.main_table(rows, cfg.confidence), _notes(cfg, rows)),
        (
            "Controls of equal cost",
            tables.controls_table(rows),
            "A control spends on a plain network what the row spends: its epochs, minutes or "
            "parameters. Intervals as above.",
        ),
        (
            "Other systems",
            peers,
            "Trained elsewhere, on other data and at other sizes, and scored here on the same "
            "persons; the rows are scored on the same joints.",
        ),
        ("Cost", tables.cost_table(rows, costs), _cost_note(cfg, costs)),
        *_breakdowns(rows),
        (
            "Share of the gradient",
            tables.shares_table(rows),
            "Of each term's gradient norm at the student's last shared feature, percent of their "
            "sum, a mean per epoch of every 50th step.",
        ),
        ("Lineage", tables.lineage_table(runs), "SHA-256 of configuration and annotations."),
    ]


def _markdown(sections: list[_Section], timed: bool, caption: str | None) -> str:
    """The whole report; sections without a table are left out."""
    text = [
        f"## {title}\n\n{as_markdown(cells)}\n\n{note}\n"
        for title, cells, note in sections
        if cells
    ]
    text.insert(1, "![Gains, joints and gradients](report.png)\n")
    if timed:
        text.insert(2, "![AP against the time of inference and of training](costs.png)\n")
    if caption:
        text.insert(2, f"![Poses of two runs](comparison.png)\n\n{caption}\n")
    return "# Report\n\n" + "\n".join(text)


def _breakdowns(rows: list[Row]) -> list[_Section]:
    """AP in parts."""
    return [
        ("AP by joint", tables.breakdown_table(rows, "joints"), "OKS of the joint alone."),
        (
            "AP by occlusion",
            tables.breakdown_table(rows, "occlusion"),
            "OKS of the visible (v = 2) or the hidden (v = 1) joints alone.",
        ),
        (
            "AP by crowding",
            tables.breakdown_table(rows, "crowding"),
            "crowdIndex below 0.2, below 0.8, and from there on.",
        ),
    ]


def _cost_note(cfg: DictConfig, costs: Mapping[str, Cost]) -> str:
    note = (
        "Parameters and multiply-adds of the whole network; epochs and mean wall time of the "
        "row's own training, without those of the networks it was given."
    )
    if not costs:
        return note
    return (
        f"{note} Inference and training are multiples of {cfg.baseline}'s time, measured in turns "
        "on one core: one person's pass through the network, and all stages that the network is "
        "trained in, without the training of a teacher."
    )


def _notes(cfg: DictConfig, rows: list[Row]) -> str:
    """What a reader must know of the main table."""
    notes = [
        "AP in percent, mean ± sample standard deviation over seeds.",
        f"The gain is over {cfg.baseline}, seed by seed on the same images and then averaged; its "
        f"{100 * cfg.confidence:g} % interval is a paired bootstrap over images and seeds together "
        f"({cfg.resamples} samples; a row of one seed, such as the teacher's, over images alone).",
        "The paper's columns are its Table IV, on CrowdPose's test set: on other data, or at "
        "another scale, compare gains, not levels. Its AP, measured on a detector's boxes, stands "
        "only beside rows that were measured on such.",
    ]
    if any("quoted" in row.paper for row in rows):
        notes.append(
            "Quoted: COCO AP that the paper's Tables I and II state for a method, at its own "
            "network, data and schedule; nothing of it was measured here."
        )
    pck = next((row.pck_persons for row in rows if row.pck_persons), None)
    if pck:
        notes.append(
            f"PCK@0.2: share of the labelled joints of {pck} persons found within a fifth of the "
            "torso, left shoulder to right hip."
        )
    return " ".join(notes)
