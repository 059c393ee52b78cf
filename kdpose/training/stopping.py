"""A stop signal ends a training after a checkpoint, from which it continues at the next batch."""

import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kdpose.data.sampling import EpochSampler
from kdpose.runtime import signals

_log = logging.getLogger(__name__)


class StopSafely(L.Callback):
    """Ends a training between two steps after SIGTERM, SIGINT or SLURM's warning.

    Within an epoch, ``last.ckpt`` is written first. In validation and at the end of an epoch the
    ``last.ckpt`` of the last finished epoch stands.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.ckpt"
        self._warning: signal.Signals | None = None
        self._told: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signals over from Lightning, whose handler talks to other processes at once."""
        inner: Any = trainer
        environment = inner._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self._warning = signal.Signals(environment.requeue_signal or signal.SIGUSR1)
        signals.install(*([self._warning] if self._warning else []))
        if trainer.fit_loop.restarted_mid_epoch:
            _go_on(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop after this step, but not between steps whose gradients are added up."""
        if not trainer.fit_loop._should_accumulate():
            self._look(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop within the validation of a training."""
        self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        """Have Lightning leave its loops; all processes do so at the same batch."""
        inner: Any = trainer
        if _told_anyone(trainer):
            inner._signal_connector.received_sigterm = True

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint, and have SLURM start the job again where SLURM gave the warning."""
        if not isinstance(exception, SIGTERMException):
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if trainer.training and 0 < progress.current.completed < trainer.num_training_batches:
            trainer.save_checkpoint(self.path, weights_only=False)
        self._told = signals.told() or signal.SIGTERM  # of another process, which all follow
        if self._told == self._warning and trainer.is_global_zero:
            requeue()

    def stopped(self) -> signals.Stopped:
        """What ends the command."""
        kept = f"{self.path.absolute()} has the state" if self.path.is_file() else ""
        number = self._told or signal.SIGTERM
        return signals.Stopped(number, kept or "no epoch was finished, so it begins again")


def fit(
    trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, resume: str | None
) -> None:
    """Train, and end the command if a stop signal arrives.

    Args:
        trainer: has :class:`StopSafely` among its callbacks.
        module: what is trained.
        data: on which.
        resume: the checkpoint to go on from.

    Raises:
        Stopped: a signal arrived.
    """
    with signals.deferred():
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        except SIGTERMException:
            inner: Any = trainer  # whose type does not know of its callbacks
            stop = next(x for x in inner.callbacks if isinstance(x, StopSafely))
            raise _ended(trainer, stop.stopped()) from None
        finally:  # Lightning leaves a failed validation's workers; as garbage each blocks for 10 s
            trainer.fit_loop.teardown()
    if _told_anyone(trainer):  # after the last step
        raise _ended(trainer, signals.Stopped(signals.told() or signal.SIGTERM))


def _told_anyone(trainer: L.Trainer) -> bool:
    """Whether a signal has arrived in any process; all ask at the same point."""
    told = signals.told() is not None
    if trainer.world_size > 1:
        return trainer.strategy.reduce_boolean_decision(told, all=False)
    return told


def _ended(trainer: L.Trainer, stopped: signals.Stopped) -> SystemExit:
    """What ends this process; Lightning kills the first where one that it started has an error."""
    inner: Any = trainer
    environment = inner._accelerator_connector.cluster_environment
    started = isinstance(environment, LightningEnvironment) and trainer.global_rank > 0
    return SystemExit(0) if started else stopped


def _go_on(trainer: L.Trainer) -> None:
    """Have the data go on where the checkpoint is; Lightning has made its iterator before that."""
    loop: Any = trainer.fit_loop
    progress: Any = loop.epoch_loop.batch_progress
    loader: Any = trainer.train_dataloader
    if isinstance(sampler := getattr(loader, "sampler", None), EpochSampler):
        sampler.set_epoch(loop.epoch_progress.current.processed)
        sampler.seen = progress.current.completed * (loader.batch_size or 1)
    elif loop._combined_loader_states_to_load:
        loop._load_combined_loader_states()
    else:
        return
    iter(loop._data_fetcher)


def requeue() -> None:
    """Have SLURM queue this job once more."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job else os.environ.get("SLURM_JOB_ID", "")
    try:
        done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True)
    except OSError as error:
        _log.warning("job %s was not requeued: %s", name, error)
        return
    if done.returncode:
        _log.warning("job %s was not requeued: %s", name, done.stderr.strip())
    else:
        _log.info("job %s is queued again", name)
