"""The results of a search: a table, figures and the best values."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from kdpose.display.tables import as_markdown, write_csv
from kdpose.sweeps.space import as_overrides
from kdpose.sweeps.study import SharedStudy
from kdpose.training.run_folder import config_hash

_COLORS = {TrialState.COMPLETE: "#1982c4", TrialState.PRUNED: "#bbbbbb"}


def write_results(shared: SharedStudy, metric: str, given: Sequence[str]) -> FrozenTrial | None:
    """Write ``trials.csv``, ``trials.md``, ``search.png`` and ``best.yaml`` beside the study.

    Args:
        shared: the study.
        metric: name of its values.
        given: overrides shared by all trials.

    Returns:
        The best finished trial, if there is one.
    """
    trials = shared.trials()
    best = _best(shared.study, trials)
    rows = [_row(shared, metric, trial) for trial in trials]
    write_csv(shared.folder / "trials.csv", rows)
    (shared.folder / "trials.md").write_text(_markdown(rows, metric))
    if best is None:
        return None
    _draw(shared.study, trials, best, metric, shared.folder / "search.png")
    record = {
        "trial": shared.trial_folder(best).name,
        metric: best.value,
        "params": dict(best.params),
        "overrides": [*given, *as_overrides(best.params)],
        "config_sha256": config_hash(OmegaConf.load(shared.trial_folder(best) / "config.yaml")),
    }
    OmegaConf.save(OmegaConf.create(record), shared.folder / "best.yaml")
    return best


def _best(study: optuna.Study, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    done = [t for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    return max(done, key=lambda trial: sign * (trial.value or 0.0), default=None)


def _row(shared: SharedStudy, metric: str, trial: FrozenTrial) -> dict[str, Any]:
    folder = shared.trial_folder(trial)
    file = folder / "metrics.json"
    training = json.loads(file.read_text())["training"] if file.is_file() else {}
    return {
        "trial": folder.name.removeprefix("trial_"),
        "state": trial.state.name.lower(),
        metric: trial.value,
        **trial.params,
        "epochs": max(trial.intermediate_values, default=-1) + 1,
        "seconds": training.get("seconds"),
        "tries": trial.user_attrs.get("tries", 1),
        "error": trial.user_attrs.get("error"),
    }


def _markdown(rows: Sequence[dict[str, Any]], metric: str) -> str:
    """The rows, best first, without empty columns."""
    rows = sorted(rows, key=lambda row: (row["state"] != "complete", -(row[metric] or 0.0)))
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keys = [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]
    lines = [[_cell(row.get(key), percent=key == metric) for key in keys] for row in rows]
    return as_markdown([keys, *lines], left=0) + "\n"


def _cell(value: Any, percent: bool) -> str:
    if value is None:
        return ""
    if percent:
        return f"{100 * value:.1f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")


def _draw(
    study: optuna.Study, trials: Sequence[FrozenTrial], best: FrozenTrial, metric: str, path: Path
) -> None:
    """History, importance, and the metric over each searched key."""
    keys = sorted({key for trial in trials for key in trial.params})
    columns = 2 + len(keys)
    figure = Figure(figsize=(3.4 * columns, 3.4), layout="constrained")
    axes = figure.subplots(1, columns)
    _history(axes[0], trials, study.direction == StudyDirection.MAXIMIZE, metric)
    _importance(axes[1], study)
    for panel, key in zip(axes[2:], keys, strict=True):
        _slice(panel, trials, best, key)
        panel.sharey(axes[0])
    figure.savefig(path, dpi=130)


def _history(axes: Axes, trials: Sequence[FrozenTrial], largest: bool, metric: str) -> None:
    for state, color in _COLORS.items():
        some = [
            (n, t.value) for n, t in enumerate(trials) if t.state == state and t.value is not None
        ]
        axes.plot(
            *zip(*some, strict=True) if some else ([], []),
            "o",
            color=color,
            label=state.name.lower(),
        )
    so_far: list[tuple[int, float]] = []
    for number, trial in enumerate(trials):
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            values = [trial.value, *(value for _, value in so_far[-1:])]
            so_far.append((number, max(values) if largest else min(values)))
    axes.step(*zip(*so_far, strict=True), where="post", color="#ff595e", lw=1, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _importance(axes: Axes, study: optuna.Study) -> None:
    """PED-ANOVA's importance of each key for the best trials; needs several trials."""
    axes.set_xlabel("importance (PED-ANOVA)")
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shares: dict[str, float] = {}
    if len({trial.value for trial in ended}) > 1:  # otherwise each key has an equal share
        with suppress(ValueError, RuntimeError):
            shares = optuna.importance.get_param_importances(study)
    axes.barh([_short(key) for key in shares], list(shares.values()), color="#8ac926")
    axes.invert_yaxis()
    if not shares:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(
            0.5,
            0.5,
            "too few trials, or all equal",
            ha="center",
            transform=axes.transAxes,
            color="#888",
        )


def _slice(axes: Axes, trials: Sequence[FrozenTrial], best: FrozenTrial, key: str) -> None:
    for state, color in _COLORS.items():
        some = [t for t in trials if t.state == state and key in t.params and t.value is not None]
        values = [_place(t.params[key]) for t in some]
        axes.plot(values, [t.value or 0.0 for t in some], "o", color=color)
    axes.plot(
        [_place(best.params[key])], [best.value or 0.0], "o", mfc="none", mec="#ff595e", ms=10
    )
    if _is_log(best.distributions[key]):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=5))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(key)


def _place(value: Any) -> Any:
    """Numbers on a continuous axis, choices as categories."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _is_log(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, FloatDistribution) and distribution.log


def _short(key: str) -> str:
    return key.removesuffix(".weight")
