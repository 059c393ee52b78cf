"""Batch norms whose statistics are those of the whole batch, however many devices share it."""

from lightning.pytorch.plugins import LayerSync
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn


class SyncedNorms(LayerSync):
    """Lightning's ``sync_batchnorm`` for timm's networks as well.

    Many of timm's batch norms hold the activation that follows them; torch's own conversion, which
    ``trainer.sync_batchnorm`` calls, makes plain batch norms of them, without it.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert every batch norm of a Lightning module.

        Raises:
            ValueError: it is on a CPU.
        """
        if next(model.parameters()).device.type == "cpu":
            raise ValueError(
                "batch norms cannot be synchronised on CPUs, where torch has no such layer: take "
                "trainer=ddp_cpu or trainer.plugins=null"
            )
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Nothing: what comes after training reads the checkpoint, whose names are the same."""
        return model
