"""Table rows: means over seeds, and how sure a difference from the baseline is."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdpose.cli import CONF
from kdpose.metrics.matches import draw_images, interval, resampled_ap, resampled_mean
from kdpose.reports.ablation.collect import Run
from kdpose.reports.ablation.measure import Measured
from kdpose.runtime.recipes import replacement

FIGURES = ("AP", "AP50", "AP75", "AR", "APM", "APL", "AP_easy", "AP_medium", "AP_hard")
_CHOICES = ("+experiment=", "dataset=", "pipeline=", "+scale=", "name=")
_Figures = dict[int, tuple[float | None, NDArray[np.float64]]]
Shares = dict[str, dict[int, float]]


class Bootstrap(NamedTuple):
    """How intervals are found: ``resamples`` of the images, their ``confidence`` and ``seed``."""

    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Difference:
    """AP above another row's, as a fraction: over the seeds both have, and its interval.

    Attributes:
        mean: over the seeds.
        low: of the interval, over images and seeds together.
        high: of the interval.
        seeds: how many both have.
        over: the other row's label.
    """

    mean: float
    low: float
    high: float
    seeds: int
    over: str


@dataclass(frozen=True)
class Row:
    """One line of the table, over the seeds of its runs; figures are fractions.

    Attributes:
        label: of the runs.
        runs: by seed.
        means: of ``FIGURES`` and ``PCK``, where defined.
        deviation: of AP over the seeds, sample standard deviation; None for a single one.
        difference: from the baseline; None for itself and where no seed is shared.
        beside: from the row's controls of equal cost.
        joints: AP by joint.
        occlusion: AP on visible and hidden joints.
        crowding: AP by the images' crowding.
        pck_persons: how many PCK counts.
        shares: of the gradient by term and epoch.
        paper: what the paper states for the scheme, in percent, and the scheme's number; or, of a
            row that no scheme ends with, ``part_of``, the number of one that trains it as well; or
            the ``method`` of the field, and the figures ``quoted`` for it.
    """

    label: str
    runs: Sequence[Run]
    means: dict[str, float]
    deviation: float | None
    difference: Difference | None
    beside: Sequence[Difference]
    joints: dict[str, float | None]
    occlusion: dict[str, float | None]
    crowding: dict[str, float | None]
    pck_persons: int | None
    shares: Shares
    paper: Mapping[str, Any]

    @property
    def paper_levels(self) -> dict[str, float]:
        """The paper's AP, AP50 and AP75, measured on a detector's boxes: none beside other rows."""
        detected = all(run.metrics.get("box_source") not in (None, "gt") for run in self.runs)
        return {k: self.paper[k] for k in ("AP", "AP50", "AP75") if detected and k in self.paper}

    @property
    def command(self) -> str | None:
        """What trains the row, where it is a scheme of an ablation."""
        scheme, words = self.paper.get("scheme", self.paper.get("part_of")), _words(self.runs[0])
        method = self.paper.get("method")
        if words is None or (scheme is None and method is None):
            return None
        chosen = f"scheme={scheme}" if method is None else f"method={method}"
        seeds = ",".join(str(run.seed) for run in self.runs)
        return f"kdpose train -m {words} {chosen} seed={seeds}"


def _words(run: Run) -> str | None:
    """What chose the pipeline that a run is a stage of, in today's names; None without one."""
    pipeline, part, _ = str(run.config.name).partition("/")
    if not part:
        return None
    command = run.metrics.get("training", {}).get("command") or ""
    words = [word for word in shlex.split(command) if word.startswith(_CHOICES)]
    old = [word for word in words if word.startswith("+experiment=")]
    if not old and (Path(CONF) / "experiment" / f"{pipeline}.yaml").is_file():
        old = words = [f"+experiment={pipeline}"]
    now = {word: replacement(word.partition("=")[2]) or word for word in old}
    return " ".join(now.get(word, word) for word in words) if old else replacement(pipeline)


def make_rows(
    runs: Mapping[str, Sequence[Run]],
    measured: Mapping[str, Sequence[Measured]],
    *,
    baseline: str,
    controls: Mapping[str, Sequence[str]],
    paper: Mapping[str, Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> list[Row]:
    """Rows in the order given.

    Args:
        runs: by label, one per seed.
        measured: the same runs'.
        baseline: the label that differences are taken from.
        controls: by label, the rows of equal cost; labels without runs are left out.
        paper: by label.
        bootstrap: of the split's images.

    Raises:
        ValueError: no row is the baseline.
    """
    if baseline not in runs:
        raise ValueError(f"baseline must be one of {list(runs)}, got {baseline}")
    images = len(measured[baseline][0].matches.persons)
    draws = draw_images(images, bootstrap.resamples, bootstrap.seed)
    figures = {label: _over_seeds(of, measured[label], draws) for label, of in runs.items()}

    over = partial(_differences, figures, bootstrap)
    return [
        _row(
            label,
            members,
            measured[label],
            next(iter(over(label, baseline)), None),
            over(label, *controls.get(label, ())),
            paper.get(label, {}),
        )
        for label, members in runs.items()
    ]


def _over_seeds(
    runs: Sequence[Run], measured: Sequence[Measured], draws: NDArray[np.int64]
) -> _Figures:
    """AP by seed, and that of each draw of the images."""
    return {
        run.seed: (run.metrics["AP"], resampled_ap(one.matches, draws))
        for run, one in zip(runs, measured, strict=True)
    }


def _differences(
    figures: Mapping[str, _Figures], bootstrap: Bootstrap, label: str, *others: str
) -> list[Difference]:
    """Those of a row from other rows that there are."""
    known = [other for other in others if other != label and other in figures]
    over = [_difference(figures[label], figures[other], other, bootstrap) for other in known]
    return [difference for difference in over if difference is not None]


def _difference(
    ours: _Figures, theirs: _Figures, over: str, bootstrap: Bootstrap
) -> Difference | None:
    """Seed by seed on the same images, then averaged: what both share cancels out.

    Each resampled split has its own sample of the seeds, so that the interval covers both.
    """
    pairs = [(ours[s][0], theirs[s][0], s) for s in ours if s in theirs]
    known = [(a - b, s) for a, b, s in pairs if a is not None and b is not None]
    if not known:
        return None
    by_seed = np.stack([ours[s][1] - theirs[s][1] for _, s in known])
    low, high = interval(resampled_mean(by_seed, bootstrap.seed), bootstrap.confidence)
    return Difference(float(np.mean([gain for gain, _ in known])), low, high, len(known), over)


def _row(
    label: str,
    runs: Sequence[Run],
    measured: Sequence[Measured],
    difference: Difference | None,
    beside: Sequence[Difference],
    paper: Mapping[str, Any],
) -> Row:
    means = _mean_by_key({k: run.metrics.get(k) for k in FIGURES} for run in runs)
    pck = [one.pck for one in measured if one.pck is not None]
    means["PCK"] = float(np.mean([share for share, _ in pck])) if pck else None
    aps = [run.metrics["AP"] for run in runs if run.metrics["AP"] is not None]
    return Row(
        label=label,
        runs=runs,
        means={name: value for name, value in means.items() if value is not None},
        deviation=float(np.std(aps, ddof=1)) if len(aps) > 1 else None,
        difference=difference,
        beside=beside,
        joints=_mean_by_key(one.joints for one in measured),
        occlusion=_mean_by_key(one.occlusion for one in measured),
        crowding=_mean_by_key(one.crowding for one in measured),
        pck_persons=pck[0][1] if pck else None,
        shares=_mean_shares([run.gradient_shares() for run in runs]),
        paper=paper,
    )


def _mean_by_key(values: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Means over the seeds, None where one of them is not defined."""
    columns: dict[str, list[float | None]] = {}
    for value in values:
        for key, figure in value.items():
            columns.setdefault(key, []).append(figure)
    return {
        key: None if None in column else float(np.mean([x for x in column if x is not None]))
        for key, column in columns.items()
    }


def _mean_shares(runs: Sequence[Shares]) -> Shares:
    """By term and epoch, over the runs that have the epoch."""
    means: Shares = {}
    for term in {term: None for run in runs for term in run}:
        epochs = sorted({epoch for run in runs for epoch in run.get(term, {})})
        means[term] = {
            e: float(np.mean([run[term][e] for run in runs if e in run.get(term, {})]))
            for e in epochs
        }
    return means
