"""An Optuna study in a folder, shared by processes and machines, that survives all of them."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from kdpose.runtime.locks import locked

warnings.filterwarnings("ignore", category=ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.ERROR)
_TRIES = 3  # of a trial whose process dies; after these it counts as failed


class SharedStudy:
    """A study whose trials several processes take one after another.

    The process of a running trial holds the lock of the trial's folder. If nobody holds it, the
    process has died: the trial is marked as failed and its values are tried again in the same
    folder, so that training continues from its last checkpoint.

    Args:
        folder: of the study; created if missing.
        direction: ``maximize`` or ``minimize``.
        sampler: makes a sampler of a ``seed``.
        pruner: decides which trials to stop early.
        seed: every trial derives its own seed from it, so that no sample is repeated with
            several processes or after a restart.
    """

    def __init__(
        self,
        folder: Path,
        direction: Literal["minimize", "maximize"],
        sampler: Callable[..., optuna.samplers.BaseSampler],
        pruner: optuna.pruners.BasePruner,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self._sampler = sampler
        self._seed = seed
        folder.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.study = optuna.create_study(
                study_name="search",
                storage=JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
                direction=direction,
                pruner=pruner,
                load_if_exists=True,
            )

    def lock(self) -> Any:
        """Keep other processes from taking or ending trials."""
        return locked(self.folder / "study.lock")

    def begin_with(self, params: Mapping[str, Any]) -> None:
        """Try these values first, unless the study has started."""
        with self.lock():
            if params and not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(dict(params))

    @contextmanager
    def next_trial(
        self, space: Mapping[str, BaseDistribution], trials: int
    ) -> Iterator[Trial | None]:
        """Take a trial for the duration of the context; None if all are done or running.

        Args:
            space: to sample from.
            trials: total number of trials of the study.
        """
        with ExitStack() as held:
            with self.lock():
                self._retry_the_dead()
                trial = None
                if self._any_left(trials):
                    drawn = len(self.study.get_trials(deepcopy=False))
                    self.study.sampler = self._sampler(seed=self._seed + drawn)
                    trial = self.study.ask(dict(space))
                    held.enter_context(locked(self.trial_folder(trial) / "worker.lock"))
            yield trial

    def end(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        """Record how a trial ended."""
        with self.lock():
            self.study.tell(trial, value, state=state)

    def trial_folder(self, trial: Trial | FrozenTrial) -> Path:
        """The folder of a trial's run; a second attempt of the same values shares it."""
        return self.folder / f"trial_{_root(trial):03d}"

    def trials(self) -> list[FrozenTrial]:
        """The latest attempt of each started trial, in order."""
        begun = (t for t in self.study.get_trials() if t.state != TrialState.WAITING)
        return list({_root(trial): trial for trial in begun}.values())

    def _any_left(self, trials: int) -> bool:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return bool(waiting) or len(self.trials()) < trials

    def _retry_the_dead(self) -> None:
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            try:
                with locked(self.trial_folder(trial) / "worker.lock", wait=False):
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    self._try_again(trial)
            except BlockingIOError:
                continue  # its process is alive

    def _try_again(self, trial: FrozenTrial) -> None:
        tries = trial.user_attrs.get("tries", 1)
        if tries < _TRIES:
            again = optuna.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=trial.intermediate_values,
                user_attrs={"first": _root(trial), "tries": tries + 1},
            )
            self.study.add_trial(again)


def _root(trial: Trial | FrozenTrial) -> int:
    """Number of the first attempt of a trial's values."""
    return int(trial.user_attrs.get("first", trial.number))
