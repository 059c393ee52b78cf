"""In which order the training persons come."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from kdpose.types import PoseBatch


class EpochSampler(DistributedSampler[PoseBatch]):
    """Yields (epoch, row), so that workers know which epoch's augmentation to draw.

    The order depends on (seed, epoch) alone; Lightning calls ``set_epoch``.  Devices take turns in
    it, so that together they see in each step what a single one would.
    """

    seen = 0  # rows of the epoch, of which a training that was stopped within it is past

    def __init__(self, rows: NDArray[np.int64], *devices: int, **options: Any) -> None:
        super().__init__(range(len(rows)), *devices, **options)  # type: ignore[arg-type]
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        """Pairs of epoch and row."""
        seen, self.seen = self.seen, 0
        order = itertools.islice(super().__iter__(), seen, None)
        return ((self.epoch, int(self.rows[place])) for place in order)
