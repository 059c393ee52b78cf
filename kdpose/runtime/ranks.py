"""What a process knows of those that train with it, whoever started them."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds, and a command line asks for its rank first
    from torch import Tensor


def rank() -> int:
    """Of this process among all, as its launcher says (torchrun, Lightning, SLURM); 0 if alone."""
    return _told("RANK", "LOCAL_RANK", "SLURM_PROCID")


def speaks() -> bool:
    """Whether an error of this process is to be printed.

    Until the processes have met, all of a node fail alike and one speaks for them; from then on a
    process that fails does so alone.
    """
    return met() or _told("LOCAL_RANK", "SLURM_LOCALID") == 0


def met() -> bool:
    """Whether there are other processes and they are connected."""
    if "torch" not in sys.modules:
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_ranks(value: "Tensor") -> "Tensor":
    """The mean of a tensor's values in all processes, without gradient; its own if alone."""
    if not met():
        return value.detach()
    import torch
    import torch.distributed as dist

    total = value.detach().to(torch.float32, copy=True)
    dist.all_reduce(total)
    return total / dist.get_world_size()


def _told(*names: str) -> int:
    """The first of these environment variables that is set."""
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)
