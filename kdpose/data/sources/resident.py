"""A packed data set that lives on the device: a step asks the host for row numbers only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from kdpose.data.dataset import Index, PoseDataset, split
from kdpose.data.sources.device_crop import (
    RowBatch,
    SourceBatch,
    Sources,
    cut,
    inverses,
)
from kdpose.data.sources.packed import Pack
from kdpose.types import PoseBatch

_SHARE = 0.8  # of the device's free memory that pixels may take


class RowDataset(Dataset[RowBatch]):
    """Rows of a data set, and nothing of them.

    Args:
        count: number of persons.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        """Number of persons."""
        return self.count

    def __getitems__(self, indices: Sequence[Index]) -> RowBatch:
        """The batch's epoch and rows."""
        epoch, rows = split(indices)
        return RowBatch(epoch, torch.from_numpy(rows))


class Resident:
    """All sources of a data set on the device, and the views of the current epoch.

    Args:
        data: whose ``pixels`` are a pack.
        device: where to keep it.

    Raises:
        ValueError: the data is not packed, or does not fit the device's memory.
    """

    def __init__(self, data: PoseDataset, device: torch.device) -> None:
        pack = data.pixels
        if not isinstance(pack, Pack):
            raise ValueError(
                "data.resident needs packed crops: run `kdpose pack`, then data.pack=auto"
            )
        if device.type == "cuda":
            free = torch.cuda.mem_get_info(device)[0]
            if pack.raw_bytes > _SHARE * free:
                raise ValueError(
                    f"{pack.folder} takes {pack.raw_bytes / 1e9:.1f} GB as pixels and the device "
                    f"has {free / 1e9:.1f} GB free: data.resident=false, or a pack of smaller crops"
                )
        self.data = data
        self.sources = _upload(data, pack, device)
        self.device = device
        self._epoch = -1
        self._views: SourceBatch

    def __call__(self, batch: RowBatch) -> PoseBatch:
        """Cut the crops of these rows; at an epoch's first, all its views are worked out."""
        if batch.epoch != self._epoch:
            self._views = self._all_views(batch.epoch)
            self._epoch = batch.epoch
        views, rows = self._views, batch.rows.to(self.device)
        picked = SourceBatch(
            Sources(self.sources.pixels, self.sources.start[rows], self.sources.extent[rows]),
            views.inverse[rows],
            None if views.teacher_inverse is None else views.teacher_inverse[rows],
            PoseBatch(views.labels.image, *(f[rows] for f in views.labels[1:8])),
        )
        return cut(picked, self.data)

    def _all_views(self, epoch: int) -> SourceBatch:
        rows = np.arange(len(self.data))
        student, teacher = (
            None if m is None else torch.from_numpy(m.astype(np.float32)).to(self.device)
            for m in inverses(self.data, epoch, rows)
        )
        labels = self.data.labels(self.data.plan(epoch, rows), rows)
        assert student is not None
        moved: list[Any] = [None if f is None else f.to(self.device) for f in labels]
        return SourceBatch(self.sources, student, teacher, PoseBatch(*moved))


def _upload(data: PoseDataset, pack: Pack, device: torch.device) -> Sources:
    """A pack's crops as pixels on the device; the host holds one crop at a time."""
    extent = torch.from_numpy(pack.extent.astype(np.int64))
    stop = extent.prod(1).cumsum(0)
    start = stop - extent.prod(1)
    pixels = torch.empty((int(stop[-1]), 3), dtype=torch.uint8, device=device)
    for row in range(len(pack)):
        crop = torch.from_numpy(data.source(row).copy())
        pixels[start[row] : stop[row]] = crop.view(-1, 3).to(device)
    return Sources(pixels, start.to(device), extent.to(device))
