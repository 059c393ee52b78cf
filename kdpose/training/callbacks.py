"""What a run shows while it trains."""

import logging
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, RichProgressBar

from kdpose.cli import console
from kdpose.data.dataset import spread
from kdpose.display.drawing import pose_grid, save_jpeg
from kdpose.training.dashboards import show

_log = logging.getLogger(__name__)


class ProgressBar(RichProgressBar):
    """Lightning's, with figures only as old as the log's: reading a loss waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, int | str | float | dict[str, float]] = {}

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Figures beside the bar."""
        timed: Any = trainer  # whose type does not know of the next line's attribute
        if not trainer.training or trainer.global_step % timed.log_every_n_steps == 0:
            self._figures = super().get_metrics(trainer, pl_module)
        return self._figures


class EpochLines(L.Callback):
    """One line per epoch with loss, AP and time left: in the log, and where no bar can be shown.

    The loss is the mean over the epoch's batches of this process. Losses are logged once per epoch
    at least, also where an epoch has fewer steps than ``log_every_n_steps``.
    """

    def __init__(self) -> None:
        self._begun, self._first, self._validated = 0.0, 0, False
        self._total: torch.Tensor | float = 0.0
        self._batches = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun, self._first = time.monotonic(), trainer.current_epoch
        steps = trainer.num_training_batches // trainer.accumulate_grad_batches
        timed: Any = trainer  # whose type does not know of the next line's attribute
        timed.log_every_n_steps = max(1, int(min(timed.log_every_n_steps, steps)))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the last epoch."""
        self._total, self._batches, self._validated = 0.0, 0, False

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the batch's loss, without waiting for the device."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None:
            self._total = self._total + loss.detach() * trainer.accumulate_grad_batches
            self._batches += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """This epoch has an AP."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the line."""
        if not trainer.is_global_zero:
            return
        done, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        parts = [f"loss {float(self._total) / max(self._batches, 1):.4g}"]
        if self._validated and "val/AP" in trainer.callback_metrics:
            parts.append(f"AP {100 * float(trainer.callback_metrics['val/AP']):.1f}")
        seconds = (time.monotonic() - self._begun) / (done - self._first) * max(last - done, 0)
        line = f"epoch {done}/{last}: {', '.join(parts)}, {timedelta(seconds=round(seconds))} left"
        _log.info(line)
        if not console.is_terminal:
            console.print(line, highlight=False, soft_wrap=True)


class PosePictures(L.Callback):
    """Draws the poses of some fixed validation persons after validation.

    Args:
        folder: where ``epoch_NNN.jpg`` go.
        persons: how many, spread evenly over the split.
        every_n_epochs: how often; the last epoch is always drawn.
    """

    def __init__(self, folder: str, persons: int = 16, every_n_epochs: int = 10) -> None:
        self.folder = Path(folder)
        self.persons = persons
        self.every_n_epochs = every_n_epochs

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the picture."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if not due or trainer.sanity_checking or not trainer.is_global_zero:
            return
        run: Any = trainer  # whose type does not know of its data module
        dataset, net = run.datamodule.datasets["val"], run.lightning_module.net
        batch = spread(dataset, self.persons)
        with torch.compiler.set_stance("force_eager"):  # not compiled for the sake of one batch
            pose = net.pose(batch.image.to(pl_module.device))
        joints = pose.joints.float().cpu()
        show(trainer.loggers, batch, joints, dataset.skeleton, trainer.global_step)
        grid = pose_grid(batch.image, [joints], dataset.skeleton)
        self.folder.mkdir(parents=True, exist_ok=True)
        save_jpeg(grid, self.folder / f"epoch_{epoch:03d}.jpg", quality=90)


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average of the weights, written to the best checkpoint as well.

    Lightning's own callback restores the trained weights before checkpoints are written after a
    validation, so that a checkpoint of weights alone would hold others than those scored.
    Checkpoints of the validation must be written before the epoch ends
    (``save_on_train_epoch_end: false``).
    """

    _averaged = False

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the averages."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._averaged = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep them until the checkpoint is written."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the trained weights."""
        if self._averaged:
            super().on_validation_epoch_end(trainer, pl_module)
            self._averaged = False
        super().on_train_epoch_end(trainer, pl_module)
