"""``what=methods``: a person's inference and a training step of finished runs, in turns."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from benchmarks.infer import crops, timed
from benchmarks.step import fit
from kdpose.checkpoints.load import load_net
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.timing import Case
from kdpose.reports.ablation.collect import Run, by_row, collect_runs
from kdpose.reports.ablation.costs import INFERENCE, TRAINING
from kdpose.training.stage import built


def cases(
    runs: str | Sequence[str] | None,
    labels: Sequence[str] | None,
    reference: str,
    steps: int,
    scratch: Path,
) -> list[Case]:
    """Both times of each row, of its run with the first seed; ratios are to one of the rows.

    A training step is that of the run: its crops, teacher, losses, optimizer; the crops are cut in
    the same process, from images that are decoded already.

    Args:
        runs: folder of finished runs, or several, whose data sets are still there.
        labels: the rows to measure; None: all.
        reference: the row that the others are compared with.
        steps: of a measurement.
        scratch: not needed.

    Raises:
        FileNotFoundError: there are no runs, or their data are gone.
        ValueError: no folder is given, or no run has one of the labels.
    """
    if runs is None:
        raise ValueError("what.cases.runs must be a folder of finished runs, or a list of such")
    folders = [runs] if isinstance(runs, str) else list(runs)
    rows = by_row(collect_runs(folders), (), labels)
    return [case for label, of in rows.items() for case in _both(label, of[0], reference, steps)]


def _both(label: str, run: Run, reference: str, steps: int) -> list[Case]:
    net = load_net(run.folder / "best.ckpt").net
    counted = complexity(net)
    facts = {"params M": counted["params"] / 1e6, "GMACs": counted["gmacs"]}
    ways = {
        INFERENCE: timed(partial(net.pose, crops(net, 1)), 1),
        TRAINING: _step(run.config.copy(), steps),
    }
    return [
        Case(
            f"{part} of {label}",
            way,
            None if label == reference else f"{part} of {reference}",
            facts=facts,
        )
        for part, way in ways.items()
    ]


def _step(cfg: DictConfig, steps: int) -> Callable[[], float]:
    cfg.data.num_workers = 0
    module, data, _ = built(cfg)

    def run() -> float:
        how = (cfg.trainer.accelerator, cfg.trainer.get("precision"), steps)
        fit(module, *how, datamodule=data)
        return float(steps * data.share())

    return run
