"""Crops cut on the device: the host hands over sources' pixels and small numbers only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kdpose.data.dataset import Index, Matrices, PoseDataset, split
from kdpose.data.transforms import inverse_affine, shown
from kdpose.types import PoseBatch


class Sources(NamedTuple):
    """Images of any size end to end, so that none is padded.

    Attributes:
        pixels: ``(P, 3)`` uint8 RGB, row after row, image after image.
        start: ``(B,)`` int64, where each image begins.
        extent: ``(B, 2)`` int64, its width and height.
    """

    pixels: Tensor
    start: Tensor
    extent: Tensor


class SourceBatch(NamedTuple):
    """What :func:`cut` makes a :class:`PoseBatch` of.

    Attributes:
        sources: pixels that show the persons.
        inverse: ``(B, 2, 3)`` float32 from crop to source pixels.
        teacher_inverse: the same of the teacher's crop, or None.
        labels: all else; its images are empty.
    """

    sources: Sources
    inverse: Tensor
    teacher_inverse: Tensor | None
    labels: PoseBatch


class RowBatch(NamedTuple):
    """Which persons a resident data set is to show: their epoch, and ``rows (B,)`` int64."""

    epoch: int
    rows: Tensor


def warp_sources(sources: Sources, inverse: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a crop of each source bilinearly, with zeros beyond it; float32 on any device.

    Args:
        sources: B images.
        inverse: ``(B, 2, 3)`` from crop to source pixels, pixel centres at integers.
        size: W, H of the crops.

    Returns:
        ``(B, 3, H, W)`` uint8.
    """
    with torch.autocast(inverse.device.type, enabled=False):
        width, height = size
        device = inverse.device
        u = torch.arange(width, device=device, dtype=torch.float32)
        v = torch.arange(height, device=device, dtype=torch.float32)
        a, b, c = inverse.float()[:, :, :, None, None].unbind(2)  # (B, 2, 1, 1) each
        x, y = (a * u + b * v[:, None] + c).unbind(1)  # (B, H, W)
        left, top = x.floor(), y.floor()
        columns, rows = sources.extent[:, :, None, None].unbind(1)
        value = torch.zeros(*x.shape, 3, device=device)
        for dx in (0, 1):
            for dy in (0, 1):
                i, j = left + dx, top + dy
                share = (1 - (x - i).abs()) * (1 - (y - j).abs())
                inside = (i >= 0) & (i < columns) & (j >= 0) & (j < rows)
                index = j.long() * columns + i.long() + sources.start[:, None, None]
                taken = sources.pixels[torch.where(inside, index, 0)]
                value += (share * inside)[..., None] * taken
        return value.round_().to(torch.uint8).permute(0, 3, 1, 2)


class SourceDataset(Dataset[SourceBatch]):
    """The persons of a data set as what the device needs to crop them.

    Args:
        dataset: whose persons, views and sizes.
    """

    def __init__(self, dataset: PoseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[Index]) -> SourceBatch:
        """The parts of the persons' sources that their crops show."""
        data = self.dataset
        epoch, rows = split(indices)
        plan = data.plan(epoch, rows)
        inverse, teacher = inverses(data, epoch, rows)
        low, high = shown(inverse, data.input_size)
        if teacher is not None and data.teacher_size is not None:  # half a pixel more or less
            also = shown(teacher, data.teacher_size)
            low, high = np.minimum(low, also[0]), np.maximum(high, also[1])
        parts, corners = [], np.empty((len(rows), 2))
        for i, row in enumerate(rows.tolist()):
            source = data.source(row, max(1, int(high[i, 1])))
            limit = np.array(source.shape[1::-1])
            x1, y1 = np.clip(low[i], 0, limit - 1)
            x2, y2 = np.clip(high[i], (x1 + 1, y1 + 1), limit)
            parts.append(source[y1:y2, x1:x2])
            corners[i] = x1, y1
        inverse[..., 2] -= corners
        if teacher is not None:
            teacher[..., 2] -= corners
        return SourceBatch(
            sources=pack_sources(parts),
            inverse=torch.from_numpy(inverse.astype(np.float32)),
            teacher_inverse=None if teacher is None else _float(teacher),
            labels=data.labels(plan, rows),
        )


def inverses(
    data: PoseDataset, epoch: int, rows: NDArray[np.int64]
) -> tuple[Matrices, Matrices | None]:
    """Affines ``(B, 2, 3)`` from the student's and the teacher's crop pixels to the sources'."""
    plan = data.plan(epoch, rows)
    student = inverse_affine(data.source_matrix(plan, rows, data.input_size))
    if data.teacher_size is None:
        return student, None
    return student, inverse_affine(data.source_matrix(plan, rows, data.teacher_size))


def pack_sources(images: Sequence[NDArray[np.uint8]]) -> Sources:
    """Lay ``(h, w, 3)`` images end to end."""
    extent = np.array([image.shape[1::-1] for image in images], dtype=np.int64)
    end = extent.prod(1).cumsum()
    pixels = np.empty((end[-1], 3), np.uint8)
    for image, stop in zip(images, end, strict=True):
        height, width = image.shape[:2]
        pixels[stop - height * width : stop].reshape(height, width, 3)[:] = image
    return Sources(
        torch.from_numpy(pixels), torch.from_numpy(end - extent.prod(1)), torch.from_numpy(extent)
    )


def cut(batch: SourceBatch, data: PoseDataset) -> PoseBatch:
    """Crop a batch where its pixels are."""
    second = None
    if batch.teacher_inverse is not None and data.teacher_size is not None:
        second = warp_sources(batch.sources, batch.teacher_inverse, data.teacher_size)
    image = warp_sources(batch.sources, batch.inverse, data.input_size)
    return batch.labels._replace(image=image, teacher_image=second)


def _float(matrix: Matrices) -> Tensor:
    return torch.from_numpy(matrix.astype(np.float32))
