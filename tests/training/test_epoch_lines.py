"""What is written while a run trains."""

import logging

import lightning as L
import torch
from torch.utils.data import DataLoader

from kdpose.training.callbacks import EpochLines


class Line(L.LightningModule):
    """Its loss is 2, then 4."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, number):
        return 0 * self.layer(batch).sum() + 2 * (number + 1)

    def validation_step(self, batch, number):
        self.log("val/AP", 0.667)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(folder, caplog, **options):
    data = DataLoader(torch.ones(4, 1), batch_size=2)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        check_val_every_n_epoch=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        callbacks=[EpochLines()],
        **options,
    )
    with caplog.at_level(logging.INFO, "kdpose.training.callbacks"):
        trainer.fit(Line(), data, data)
    return trainer, [r.message for r in caplog.records if r.name == "kdpose.training.callbacks"]


def test_a_line_has_mean_loss_ap_and_time_left(tmp_path, caplog):
    _, lines = trained(tmp_path, caplog)
    assert lines[0].startswith("epoch 1/2: loss 3, 0:00:")
    assert lines[1] == "epoch 2/2: loss 3, AP 66.7, 0:00:00 left"


def test_gathered_gradients_do_not_change_the_loss(tmp_path, caplog):
    assert "loss 3," in trained(tmp_path, caplog, accumulate_grad_batches=2)[1][0]


def test_short_epochs_are_logged_too(tmp_path, caplog):
    assert trained(tmp_path, caplog, log_every_n_steps=20)[0].log_every_n_steps == 2
    assert trained(tmp_path, caplog, log_every_n_steps=1)[0].log_every_n_steps == 1
