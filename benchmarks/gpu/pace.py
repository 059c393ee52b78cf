"""How fast a training goes: its epochs with their times, for rates and for the device's share."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

FILE = "pace.csv"


class Pace(L.Callback):
    """Adds a line to ``pace.csv`` of the run for each epoch: its beginning, end and persons.

    Times are seconds since 1970; validation is not within them.
    """

    def __init__(self) -> None:
        self._begun, self._persons = 0.0, 0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begun, self._persons = time.time(), 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count, and write the line after the epoch's last step."""
        self._persons += len(batch.image)
        if batch_idx + 1 < trainer.num_training_batches:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        line = f"{trainer.current_epoch},{self._begun:.3f},{time.time():.3f},{self._persons}\n"
        with (Path(trainer.default_root_dir) / FILE).open("a", encoding="utf-8") as file:
            file.write(line)


def epochs(run: Path) -> list[tuple[float, float, int]]:
    """Beginning, end and persons of a run's epochs, without the first: it compiles.

    A run that was continued has such a first epoch again; where there is one epoch only, it counts.
    """
    path = run / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [[float(word) for word in line.split(",")] for line in lines if line.count(",") == 3]
    return [(begun, ended, int(persons)) for _, begun, ended, persons in rows[1:] or rows]
