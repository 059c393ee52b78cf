"""A search for hyper-parameters: trials of one experiment, one after another."""

import gc
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna import TrialPruned
from optuna.trial import Trial, TrialState
from optuna_integration import PyTorchLightningPruningCallback

from kdpose.cli import console, one_line
from kdpose.runtime.moved import renamed
from kdpose.sweeps.jobs import keep_traceback
from kdpose.sweeps.results import write_results
from kdpose.sweeps.space import as_overrides, distributions, values_now
from kdpose.sweeps.study import SharedStudy
from kdpose.training.record import objective
from kdpose.training.run_folder import changes
from kdpose.training.stage import train

_NOT_PASSED_ON = ("hparams_search", "name=", "run_dir=", "resume=")
_HOPELESS = 3  # trials that all fail, before any that does not


def run_search(cfg: DictConfig, overrides: Sequence[str]) -> float:
    """Run trials until the study has the requested number, and write the results.

    The first trial has the experiment's own values, so the best is never worse. Any number of
    processes with the same command share the work, and the same command continues a stopped
    search.

    Args:
        cfg: ``hparams_search`` says what to search, and how.
        overrides: the command line's, passed on to every trial; keys given there are not searched.

    Returns:
        The best value.

    Raises:
        ValueError: the search is not of one stage on one device, its folder holds that of
            another configuration, or no trial finished.
    """
    search = cfg.hparams_search
    _check_kind(cfg)
    shared = SharedStudy(
        Path(search.folder),
        search.direction,
        instantiate(search.sampler, _partial_=True, _convert_="all"),
        instantiate(search.pruner, _convert_="all"),
        cfg.seed,
    )
    _check_same(cfg, shared)
    given = [o for o in overrides if not o.lstrip("+~").startswith(_NOT_PASSED_ON)]
    space: Any = OmegaConf.to_container(search.space, resolve=True)
    space = distributions(space, fixed=[o.lstrip("+").split("=")[0] for o in given])
    shared.begin_with(values_now(cfg, space))
    while True:
        with shared.next_trial(space, search.trials) as trial:
            if trial is None:
                break
            _run_trial(cfg, shared, trial, given)
        _write(cfg, shared, given)
        _check_hope(shared)
    return _write(cfg, shared, given, final=True)


def _check_kind(cfg: DictConfig) -> None:
    if cfg.pipeline is not None:
        raise ValueError(
            "hparams_search tunes one stage: use its experiment, such as +experiment=stage1 "
            f"dataset={cfg.dataset.name}, with teacher.ckpt=PATH"
        )
    if cfg.trainer.devices not in (1, "1"):
        raise ValueError(
            f"hparams_search trains each trial on one device, got trainer.devices="
            f"{cfg.trainer.devices}: start the command once per device instead "
            "(CUDA_VISIBLE_DEVICES=0, 1, ...); the processes share the trials"
        )


def _check_same(cfg: DictConfig, shared: SharedStudy) -> None:
    """Trials of a study must be comparable: settings that are not searched must not change."""
    saved = shared.folder / "config.yaml"
    with shared.lock():
        if not saved.is_file():
            OmegaConf.save(cfg, saved, resolve=True)
        before: Any = OmegaConf.load(saved)
    changed = changes(before, cfg) + [
        f"hparams_search.{key} {before.hparams_search[key]} -> {cfg.hparams_search[key]}"
        for key in ("metric", "direction")
        if before.hparams_search[key] != cfg.hparams_search[key]
    ]
    if changed:
        raise ValueError(
            f"{shared.folder.absolute()} holds a search of another configuration: "
            f"{'; '.join(changed[:6])}. Use another name=NAME, or the earlier settings"
        )


def _run_trial(cfg: DictConfig, shared: SharedStudy, trial: Trial, given: Sequence[str]) -> None:
    """Train one trial; an error is reported at once and ends only this trial."""
    metric, folder = cfg.hparams_search.metric, shared.trial_folder(trial)
    console.rule(f"trial {folder.name[6:]}: {' '.join(as_overrides(trial.params))}")
    try:
        overrides = _trial_overrides(cfg, shared, trial, given)
        composed = renamed(compose("train", overrides=overrides))
        pruning = PyTorchLightningPruningCallback(trial, f"val/{metric}")
        metrics = train(composed, callbacks=[pruning])
        value = objective(metrics) if metric == "AP" else metrics[metric]
        shared.end(trial, TrialState.COMPLETE, value)
        spent = ["last.ckpt", "last.1.ckpt"]
    except TrialPruned:
        console.print(f"pruned: {metric} {_last_reported(trial, shared):.4f}, below the others")
        shared.end(trial, TrialState.PRUNED)
        spent = ["last.ckpt", "last.1.ckpt", "best.ckpt"]
    except Exception as error:
        line = one_line(error)
        if line is None:
            traceback.print_exc()
        line = line or f"{type(error).__name__}: {error}".splitlines()[0]
        log = (folder / "train.log").absolute()
        keep_traceback(log)
        print(f"error: trial {folder.name[6:]} failed: {line} (log: {log})", file=sys.stderr)
        trial.set_user_attr("error", line)
        shared.end(trial, TrialState.FAIL)
        spent = []
    for name in spent:  # no longer needed, and the bulk of a search
        (folder / name).unlink(missing_ok=True)
    gc.collect()
    torch.cuda.empty_cache()


def _last_reported(trial: Trial, shared: SharedStudy) -> float:
    reported = shared.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    return reported[max(reported)]


def _trial_overrides(
    cfg: DictConfig, shared: SharedStudy, trial: Trial, given: Sequence[str]
) -> list[str]:
    """The overrides of a trial: the user's, its folder, its values."""
    folder = shared.trial_folder(trial)
    identity = [f"name='{shared.folder.name}/{folder.name}'", f"run_dir='{folder}'", "resume=auto"]
    identity.append(f"group='{cfg.group or shared.folder.name}'")
    once = (TrialState.COMPLETE, TrialState.PRUNED)  # checked before the first trial
    if cfg.teacher is not None and shared.study.get_trials(deepcopy=False, states=once):
        identity.append("teacher.check=false")
    return [*given, *identity, *as_overrides(trial.params)]


def _check_hope(shared: SharedStudy) -> None:
    """Stop a search whose first trials all fail."""
    trials = shared.trials()
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    if len(failed) == len(trials) >= _HOPELESS:
        raise ValueError(
            f"the first {len(failed)} trials failed, the last with: "
            f"{failed[-1].user_attrs.get('error', 'its process died')}"
        )


def _write(
    cfg: DictConfig, shared: SharedStudy, given: Sequence[str], final: bool = False
) -> float:
    """Write the results, and at the end print them and how to use them."""
    with shared.lock():
        best = write_results(shared, cfg.hparams_search.metric, given)
    if not final:
        return float("nan") if best is None else best.value or 0.0
    if best is None:
        raise ValueError(f"no trial finished: see {shared.folder.absolute()}/trials.md")
    words = ["kdpose", "train", *given, *as_overrides(best.params)]
    console.print(f"table and figures in {shared.folder.absolute()}")
    console.print("train with the best values:", highlight=False)
    print(shlex.join(words))
    return float(best.value or 0.0)
