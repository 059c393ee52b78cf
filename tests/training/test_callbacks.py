"""The averaged weights are those that validation scores and the best checkpoint holds."""

from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdpose.training.callbacks import AveragedWeights


class _Counting(L.LightningModule):
    """Its weight is the number of steps taken; it notes the one that validation sees."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.net.weight)
        self.scored: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.net.weight.sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.scored.append(self.net.weight.item())
        self.log("score", self.net.weight.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def test_the_best_checkpoint_holds_the_averaged_weights_that_were_scored(tmp_path: Path) -> None:
    module, data = _Counting(), DataLoader(torch.zeros(4, 1))
    best = ModelCheckpoint(
        tmp_path,
        "best",
        monitor="score",
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=False,
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[AveragedWeights(decay=0.5), best],
    )

    trainer.fit(module, data, data)

    # mean m of w = 1 .. 8: m <- (m + w) / 2; Lightning's first update copies
    mean, means = 1.0, []
    for step in range(1, 9):
        mean = float(step) if step == 1 else (mean + step) / 2
        means.append(mean)
    weights = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert module.scored[0] == means[3]
    assert module.scored[-1] == means[7]
    assert weights["net.weight"].item() == means[7]
    assert module.net.weight.item() == means[7]  # what is left after the training
