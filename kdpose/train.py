"""Train one stage, or a whole pipeline: ``kdpose train +experiment=synthetic_full``."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from kdpose.cli import entry_point
from kdpose.runtime.files import check_checkpoint, check_file
from kdpose.sweeps.jobs import recorded
from kdpose.training.values import check_run

_STARTED = ("backbone", "teacher", "student")


def _check_files(cfg: DictConfig) -> None:
    """Refuse missing files before anything slow is imported."""
    if cfg.resume not in (False, None, "auto"):
        check_checkpoint(cfg.resume, "resume")
    if cfg.resume not in (False, None):
        return  # a finished run needs no data
    for key in ("start", *(f"{part}.pretrained_file" for part in _STARTED)):
        if path := OmegaConf.select(cfg, key):
            check_file(path, key)
    if cfg.dataset.prepare is None:
        train = cfg.dataset.train
        for part in train if isinstance(train, ListConfig) else [train]:
            check_file(part.annotations, "dataset.train.annotations")
        check_file(cfg.dataset.val.annotations, "dataset.val.annotations")
    if cfg.pipeline is not None:
        return
    if cfg.refiner is not None and cfg.stage1_ckpt:
        check_checkpoint(cfg.stage1_ckpt, "stage1_ckpt")
    if cfg.teacher is not None and cfg.teacher.get("ckpt"):
        check_checkpoint(cfg.teacher.ckpt, "teacher.ckpt")


def _search(cfg: DictConfig, overrides: Sequence[str]) -> float:
    """A search for hyper-parameters instead of one run."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ValueError("hparams_search runs its own trials: remove -m or hparams_search")
    try:
        from kdpose.sweeps.search import run_search
    except ImportError:
        raise ValueError("hparams_search needs the extra: pip install 'kdpose[sweep]'") from None
    return run_search(cfg, overrides)


def _run(cfg: DictConfig, overrides: list[str]) -> float | None:
    """One stage, a pipeline or a search."""
    _check_files(cfg)
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    if cfg.hparams_search is not None:
        return _search(cfg, overrides)
    if cfg.pipeline is not None:
        from kdpose.training.pipeline import run_pipeline

        if multirun and "schemes" not in cfg.pipeline:
            overrides = [*overrides, f"runs='{cfg.run_dir}'"]  # each job has stages of its own
        return run_pipeline(cfg, overrides)
    from kdpose.training.record import objective
    from kdpose.training.stage import train

    return objective(train(cfg))


@entry_point("train")
def main(cfg: DictConfig) -> float | None:
    """Entry point; returns the AP, which sweeps optimise."""
    check_run(cfg)
    hydra_cfg = HydraConfig.get()
    overrides = list(hydra_cfg.overrides.task)
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return _run(cfg, overrides)
    sweep = Path(cfg.run_dir)
    name = hydra_cfg.job.override_dirname.replace("+", "").replace("/", "-") or "0"
    cfg.run_dir = str(sweep / name)
    cfg.group = cfg.group or cfg.name
    with recorded(sweep, name, overrides, Path(cfg.run_dir) / "train.log") as record:
        record["AP"] = _run(cfg, overrides)
    return record["AP"]


if __name__ == "__main__":
    from kdpose.train import main as sent  # launchers send it to processes with another __main__

    sent()
