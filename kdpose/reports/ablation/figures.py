"""The report as pictures: gains, joints and gradients; and the paper's Figure 2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from kdpose.display.drawing import PERSON_COLORS, draw_poses
from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.costs import Cost
from kdpose.reports.ablation.measure import Measured, Split
from kdpose.reports.ablation.rows import Row

_COSTS = {
    "inference": "inference of a person",
    "training": "training of all stages, without a teacher's",
}
_TERMS = ("kl", "fea", "pos", "cst", "logit")  # each has one colour in all figures


def draw_all(
    rows: Sequence[Row], costs: Mapping[str, Cost], confidence: float, folder: Path
) -> None:
    """``report.png`` and, where there are costs, ``costs.png``."""
    draw_chart(rows, confidence, folder / "report.png")
    if costs:
        draw_costs(rows, costs, folder / "costs.png")


def draw_chart(rows: Sequence[Row], confidence: float, path: Path) -> None:
    """Gains with their intervals, AP per joint, and the terms' shares of the gradient."""
    taught = [row for row in rows if row.shares]
    height = 1.6 + 0.42 * len(rows)
    figure = Figure(figsize=(13, height + (2.6 if taught else 0)), layout="constrained")
    grid = figure.add_gridspec(
        2 if taught else 1, 1, height_ratios=[height, 2.6][: 1 + bool(taught)]
    )
    above = grid[0].subgridspec(1, 2, width_ratios=[1, 1.6])
    _gains(figure.add_subplot(above[0]), rows, confidence)
    _joints(figure.add_subplot(above[1]), rows)
    if taught:
        below = grid[1].subgridspec(1, len(taught))
        first: Axes | None = None
        for column, row in enumerate(taught):
            axes = figure.add_subplot(below[column], sharey=first)
            first = first or axes
            _shares(axes, row)
        assert first is not None
        first.set_ylabel("share of the gradient")
    figure.savefig(path, dpi=130)


def draw_costs(rows: Sequence[Row], costs: Mapping[str, Cost], path: Path) -> None:
    """AP of all but teachers against the time of inference and against that of training."""
    teachers = {run.taught_by for row in rows for run in row.runs}
    shown = [
        row
        for row in rows
        if row.label in costs and "AP" in row.means and row.runs[0].folder.name not in teachers
    ]
    figure = Figure(figsize=(13, max(5.2, 0.32 * len(shown))), layout="constrained")
    for place, (part, what) in enumerate(_COSTS.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        times = {row.label: getattr(costs[row.label], part) for row in shown}
        _points(axes, shown, times)
        axes.set_xlabel(f"{what}, multiples of the baseline's time")
        axes.set_ylabel("AP, percent; mean and range of the seeds")
    figure.savefig(path, dpi=130)


def _points(axes: Axes, rows: Sequence[Row], times: Mapping[str, float]) -> None:
    """A point for each row; the names stand beside, in the points' order, one line apart."""
    ordered = sorted(rows, key=lambda row: row.means["AP"])
    for row in ordered:
        found = [100 * run.metrics["AP"] for run in row.runs if run.metrics["AP"] is not None]
        time = times[row.label]
        axes.plot([time, time], [min(found), max(found)], color="#1982c4", lw=1.5)
        axes.plot(time, 100 * row.means["AP"], "o", color="#1982c4")
    axes.set_xlim(left=0, right=1.45 * max(times.values()))
    low, high = axes.get_ylim()
    gap, height = (high - low) / 24, low
    for row in ordered:
        ap = 100 * row.means["AP"]
        height = max(height + gap, ap)
        axes.annotate(
            row.label, (times[row.label], ap), xytext=(1.12 * max(times.values()), height),
            va="center", fontsize=8, arrowprops={"arrowstyle": "-", "color": "#bbb", "lw": 0.6},
        )  # fmt: skip
    axes.set_ylim(low, max(high, height + gap))
    axes.grid(alpha=0.3)


def _gains(axes: Axes, rows: Sequence[Row], confidence: float) -> None:
    compared = [row for row in rows if row.difference is not None]
    base = next(
        (row.paper["AP"] for row in rows if row.difference is None and "AP" in row.paper), None
    )
    for place, row in enumerate(compared):
        gain = row.difference
        assert gain is not None
        axes.plot([100 * gain.low, 100 * gain.high], [place, place], color="#1982c4", lw=2)
        axes.plot(100 * gain.mean, place, "o", color="#1982c4", label="" if place else "ours")
    theirs = {n: row.paper["AP"] for n, row in enumerate(compared) if "AP" in row.paper}
    if base is not None and theirs:
        gains = [ap - base for ap in theirs.values()]
        label = "paper, CrowdPose"
        axes.plot(gains, list(theirs), "D", mfc="none", color="#ff924c", label=label)
        axes.legend(fontsize=8)
    axes.axvline(0, color="#888", lw=0.8)
    axes.set_yticks(range(len(compared)), [_named(row) for row in compared])
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_xlabel(f"AP above the baseline, points; {100 * confidence:g} % over images and seeds")


def _joints(axes: Axes, rows: Sequence[Row]) -> None:
    names = list(rows[0].joints)
    values = 100 * np.array([[row.joints[name] for name in names] for row in rows], dtype=float)
    axes.imshow(values, aspect="auto", cmap="Blues")
    dark = 0.6 * np.nanmax(values, initial=0.0)
    for (line, column), value in np.ndenumerate(values):
        color = "white" if value > dark else "black"
        text = "n/a" if np.isnan(value) else f"{value:.1f}"
        axes.text(column, line, text, ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(
        range(len(names)), [n.replace("_", " ") for n in names], rotation=50, ha="right"
    )
    axes.set_yticks(range(len(rows)), [_named(row) for row in rows])
    axes.set_title("AP by the OKS of each joint alone, percent", fontsize=10)


def _shares(axes: Axes, row: Row) -> None:
    known = {term: f"C{index}" for index, term in enumerate(_TERMS)}
    for term, by_epoch in row.shares.items():
        marker = "o" if len(by_epoch) == 1 else ""
        epochs = [epoch + 1 for epoch in by_epoch]
        axes.plot(epochs, list(by_epoch.values()), marker=marker, label=term, color=known.get(term))
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_title(_named(row), fontsize=10)
    axes.legend(fontsize=8)


def _named(row: Row) -> str:
    return f"{row.paper['scheme']}: {row.label}" if "scheme" in row.paper else row.label


@dataclass(frozen=True)
class Shown:
    """Images to show: rows of ``Split.image_ids``, and why each was chosen."""

    rows: list[int]
    reasons: list[str]


def choose_images(above: Measured, below: Measured, gains: int, random: int, seed: int) -> Shown:
    """The images on which the lower run's OKS gains most, and some random ones."""
    gain = below.matches.best_oks - above.matches.best_oks
    known = np.flatnonzero(~np.isnan(gain))
    best = known[np.argsort(-gain[known], kind="stable")][:gains]
    best = best[gain[best] > 0]
    others = np.setdiff1d(known, best)
    drawn = np.random.default_rng(seed).permutation(others)[:random]
    return Shown(
        [*best.tolist(), *drawn.tolist()], ["largest gain"] * len(best) + ["random"] * len(drawn)
    )


def named_images(split: Split, wanted: Sequence[int | str]) -> Shown:
    """Images by id or file name.

    Raises:
        ValueError: the split has no such image.
    """
    names = {str(i): row for row, i in enumerate(split.image_ids)}
    names |= {str(split.images[i]["file_name"]): row for row, i in enumerate(split.image_ids)}
    unknown = [image for image in wanted if str(image) not in names]
    if unknown:
        raise ValueError(f"images must be ids or file names of {split.path}, got {unknown}")
    return Shown([names[str(image)] for image in wanted], ["chosen"] * len(wanted))


def draw_comparison(
    runs: tuple[Run, Run],
    measured: tuple[Measured, Measured],
    split: Split,
    shown: Shown,
    path: Path,
) -> None:
    """The paper's Figure 2: one run on top, the other below, a colour per person."""
    count = len(shown.rows)
    sizes = [split.images[split.image_ids[row]] for row in shown.rows]
    tallest = max((size["height"] / size["width"] for size in sizes), default=1.0)
    figure = Figure(figsize=(2.6 * count + 0.4, 2 * (2.6 * tallest + 0.4)), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for column, (row, reason) in enumerate(zip(shown.rows, shown.reasons, strict=True)):
        image_id = split.image_ids[row]
        regions = sorted(f["region"] for run in runs for f in _found(run, image_id))
        regions = [region for region, _ in groupby(regions)]
        for line, run in enumerate(runs):
            axis = axes[line, column]
            axis.imshow(_drawn(run, split, image_id, regions))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_xlabel(f"OKS {measured[line].matches.best_oks[row]:.2f}", fontsize=8)
        axes[0, column].set_title(f"{image_id}, {reason}", fontsize=8)
    for line, run in enumerate(runs):
        axes[line, 0].set_ylabel(run.name, fontsize=10)
    figure.savefig(path, dpi=130)


def _drawn(run: Run, split: Split, image_id: int, regions: list[list[float]]) -> NDArray[np.uint8]:
    """An image with a run's poses; persons are matched by crop, so that colours agree."""
    folder = Path(run.config.dataset.val.images)
    with Image.open(folder / split.images[image_id]["file_name"]) as file:
        image = pil_to_tensor(file.convert("RGB"))
    found = _found(run, image_id)
    if found:
        poses = torch.tensor([f["keypoints"] for f in found]).reshape(len(found), -1, 3)
        colors = [PERSON_COLORS[regions.index(f["region"]) % len(PERSON_COLORS)] for f in found]
        image = draw_poses(image, poses[..., :2], poses[..., 2], split.skeleton, colors=colors)
    drawn: NDArray[np.uint8] = image.permute(1, 2, 0).numpy()
    return drawn


def _found(run: Run, image_id: int) -> list[dict[str, Any]]:
    return [result for result in run.results if result["image_id"] == image_id]
