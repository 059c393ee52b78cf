"""What a run shows while it goes on."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, RichProgressBar
from torchvision.io import write_jpeg

from kdpose.data.dataset import spread
from kdpose.display.drawing import pose_grid
from kdpose.training.dashboards import show


class ProgressBar(RichProgressBar):
    """Lightning's, with figures only as old as the log's: reading a loss waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: dict[str, int | str | float | dict[str, float]] = {}

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Figures beside the bar."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not trainer.training or trainer.global_step % every == 0:
            self._figures = super().get_metrics(trainer, pl_module)
        return self._figures


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
        dataset = trainer.datamodule.datasets["val"]  # type: ignore[attr-defined]
        batch = spread(dataset, self.persons)
        with torch.compiler.set_stance("force_eager"):  # not compiled for the sake of one batch
            pose = pl_module.net.pose(batch.image.to(pl_module.device))  # type: ignore[union-attr, operator]
        joints = pose.joints.float().cpu()
        show(trainer.loggers, batch, joints, dataset.skeleton, trainer.global_step)
        grid = pose_grid(batch.image, [joints], dataset.skeleton)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_jpeg(grid, str(self.folder / f"epoch_{epoch:03d}.jpg"), quality=90)


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
