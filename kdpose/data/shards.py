"""Person crops in litdata's shards, streamed from a folder or a bucket while training.

For data that no disk holds: chunks are fetched, kept while there is room and dropped.  The library
shuffles chunks and what is in them, gives each device and worker its part, and goes on within an
epoch.  A sample is what a pack (:mod:`kdpose.data.packed`) has of a person, and its row; labels stay
in the annotation file.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache
from numpy.typing import NDArray

from kdpose.data.dataset import PoseDataset
from kdpose.data.device_crop import SourceDataset

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # it would ask the package index


class ShardWriter:
    """Writes samples to a folder.

    Args:
        folder: that exists.
        chunk_bytes: of a shard, what is fetched at once.
    """

    def __init__(self, folder: str, chunk_bytes: int) -> None:
        self._cache = Cache(folder, chunk_bytes=chunk_bytes)
        self._count = 0

    def add(self, row: int, data: NDArray[np.uint8], frame: Sequence[float]) -> None:
        """Write a person: its row, its crop as JPEG, its frame (:class:`Pixels`)."""
        sample = {"row": row, "jpeg": data.tobytes(), "frame": np.array(frame)}
        self._cache[self._count] = sample
        self._count += 1

    def close(self) -> None:
        """Write what is left, and the index."""
        self._cache.done()
        self._cache.merge()


class _Samples(StreamingDataset):
    """Samples with the epoch in which they are shown, counted from 0."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401
        return self.current_epoch - 1, super().__getitem__(index)


class _Streamed:
    """The pixels of one batch, by row."""

    def __init__(self, samples: Sequence[dict[str, Any]]) -> None:
        self._samples = {int(sample["row"]): sample for sample in samples}

    def read(self, row: int) -> NDArray[np.uint8]:
        """See :class:`kdpose.data.dataset.Pixels`."""
        return np.asarray(simplejpeg.decode_jpeg(self._samples[row]["jpeg"], "RGB"))

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See there."""
        return np.array([self._samples[row]["frame"] for row in rows.tolist()])


class _Crops:
    """Makes a batch of samples, in the worker that has read them."""

    def __init__(self, data: PoseDataset, on_device: bool) -> None:
        self._data = data
        self._batches = SourceDataset(data) if on_device else data

    def __call__(self, items: Sequence[tuple[int, dict[str, Any]]]) -> Any:  # noqa: ANN401
        self._data.pixels = _Streamed([sample for _, sample in items])
        return self._batches.__getitems__([(epoch, int(s["row"])) for epoch, s in items])


def stream(
    where: str,
    data: PoseDataset,
    batch_size: int,
    *,
    seed: int,
    on_device: bool,
    num_workers: int,
    **options: Any,  # noqa: ANN401
) -> StreamingDataLoader:
    """Batches of a split's persons in an order drawn anew each epoch, this device's part of them.

    Args:
        where: folder or URL of the shards; any place that litdata reads.
        data: the split; its pixels are not used.
        batch_size: on this device.
        seed: of the order.
        on_device: yield what the device cuts, see :mod:`kdpose.data.device_crop`.
        num_workers: processes that read.
        **options: of ``torch.utils.data.DataLoader``.

    Raises:
        ValueError: the shards hold other persons than the split.
    """
    samples = _Samples(where, shuffle=True, drop_last=True, seed=seed)
    return StreamingDataLoader(
        samples,
        batch_size=batch_size,
        num_workers=num_workers,
        drop_last=True,
        collate_fn=_Crops(data, on_device),
        **options,
    )
