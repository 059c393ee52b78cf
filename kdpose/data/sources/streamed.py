"""Person crops in litdata's shards, streamed from a folder or a bucket while training.

For more data than a disk holds: shards are fetched, kept while there is room, and dropped.  The
library shuffles them and what is in them, gives each device and worker its part and, after a
restart, goes on within the epoch.  A sample is what a pack
(:mod:`kdpose.data.sources.packed`) has of a person, and its row; labels stay in the annotations.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from kdpose.data.dataset import PoseDataset
from kdpose.data.sources.device_crop import SourceDataset
from kdpose.data.sources.images import decode_jpeg
from kdpose.data.sources.packed import Pack
from kdpose.data.sources.stored_crops import StoredCrops, check_stored

os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")  # which asks the package index
try:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import Cache
    from litdata.streaming.serializers import Serializer
except ModuleNotFoundError as error:
    raise ValueError("shards need the extra: pip install 'kdpose[stream]'") from error

_KEY = "data.shards"
# of what an index may say, only what write_shards lets litdata write: its other formats unpickle,
# and its other structures import modules by name
_FORMATS = re.compile(r"int bytes (?:no_header_)?numpy(?::\d+)?")
_CHUNK = re.compile(r"chunk-\d+-\d+\.bin")
_ITEM = {"type": "builtins.dict", "context": ["row", "jpeg", "frame"], "children": 3}


def write_shards(folder: str | Path, pack: Pack, shard_bytes: int, seed: int = 0) -> Path:
    """Cut a pack into shards; ``folder`` appears only when complete.

    Persons are written in a random order, so that a shard is a sample of all data and shuffling
    shards and what is in them comes near to shuffling all.

    Args:
        folder: to create.
        pack: of JPEG crops.
        shard_bytes: what is fetched at once.
        seed: of the order.

    Raises:
        FileExistsError: the folder is there already; nothing is overwritten.
        ValueError: the pack holds raw crops.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise FileExistsError(f"{folder} exists: remove it or name another (shards=FOLDER)")
    if pack.about["encoding"] != "jpeg":
        raise ValueError(f"shards are cut of JPEG crops, {pack.folder} holds raw ones")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        cache = Cache(str(temporary), chunk_bytes=shard_bytes)
        for place, row in enumerate(np.random.default_rng(seed).permutation(len(pack)).tolist()):
            frame = pack.frame(np.array([row]))[0]
            cache[place] = {"row": row, "jpeg": pack.stored(row).tobytes(), "frame": frame}
        cache.done()
        cache.merge()
        (temporary / "pack.json").write_text(json.dumps(pack.about, indent=2))
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


class Shards(StoredCrops):
    """Shards of a pack.

    Args:
        where: folder or URL, of any kind that litdata reads.

    Raises:
        FileNotFoundError: there are none.
        ValueError: their index says what kdpose does not write, see :func:`write_shards`.
    """

    key = _KEY

    def __init__(self, where: str) -> None:
        self.place = where if "://" in where else str(Path(where).absolute())
        try:
            with fsspec.open(f"{self.place}/pack.json") as file:
                self.about: dict[str, Any] = json.load(file)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no shards at {self.place} (from {_KEY}); `kdpose pack shards=FOLDER` makes them"
            ) from error
        self._check_index()

    def _check_index(self) -> None:
        """Refuse an index by which litdata would unpickle, import or leave the folder."""
        try:
            with fsspec.open(f"{self.place}/index.json") as file:
                index = json.load(file)
            config = index["config"]
            wrong = {
                "data_format": _FORMATS.fullmatch(" ".join(config["data_format"])) is None,
                "data_spec": _item(config["data_spec"]) != _ITEM,
                "item_loader": config["item_loader"] != "PyTreeLoader",
                "compression": config["compression"] is not None,
                "encryption": config["encryption"] is not None,
                "chunks": not all(_CHUNK.fullmatch(chunk["filename"]) for chunk in index["chunks"]),
            }
        except (KeyError, TypeError, ValueError, AttributeError, FileNotFoundError) as error:
            raise ValueError(
                f"{self.place}/index.json (from {_KEY}) is not an index of shards "
                f"({type(error).__name__})"
            ) from None
        strange = [key for key, differs in wrong.items() if differs]
        if strange:
            raise ValueError(
                f"{self.place}/index.json (from {_KEY}) has a {strange[0]} that kdpose does not "
                "write, which may run code: write the shards again with `kdpose pack`"
            )

    def batches(
        self,
        data: PoseDataset,
        batch_size: int,
        *,
        seed: int,
        on_device: bool,
        num_workers: int,
        **options: Any,
    ) -> StreamingDataLoader:
        """This device's part of a split's persons, in a new order each epoch.

        Args:
            data: the split, whose pixels are not used.
            batch_size: on this device.
            seed: of the order.
            on_device: yield what the device cuts, see :mod:`kdpose.data.sources.device_crop`.
            num_workers: processes that read.
            **options: of ``torch.utils.data.DataLoader``.
        """
        return _Loader(
            _Samples(
                self.place, shuffle=True, drop_last=True, seed=seed, serializers=dict(_NO_PICKLES)
            ),
            batch_size=batch_size,
            num_workers=num_workers,
            drop_last=True,
            collate_fn=_Crops(data, on_device),
            **options,
        )


def _item(spec: str) -> dict[str, Any]:
    """What litdata says of a sample's structure, in short."""
    _, node = json.loads(spec)
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    leaves = [child for child in node["children_spec"] if child == leaf]
    children = len(leaves) if len(leaves) == len(node["children_spec"]) else -1
    return {
        "type": node["type"],
        "context": json.loads(node["context"]),
        "children": children,
    }


class _NoPickle(Serializer):
    """Stands where litdata would unpickle."""

    def serialize(self, item: Any) -> tuple[bytes, str | None]:
        """Refuse."""
        raise ValueError(f"shards hold no {type(item).__name__}")

    def deserialize(self, data: bytes) -> Any:
        """Refuse."""
        raise ValueError("shards hold no pickles")

    def can_serialize(self, data: Any) -> bool:
        """Nothing."""
        return False


_NO_PICKLES = {name: _NoPickle() for name in ("pickle", "graph")}


class _Loader(StreamingDataLoader):
    """The library's, for Lightning, which leaves an epoch at its last batch.

    The library takes an epoch for ended when it is asked for a batch after the last; until then, a
    resumed one would be resumed again.
    """

    _resumed = False

    def __iter__(self) -> Iterator[Any]:
        if self._resumed:
            self.restore = False
        self._resumed = self.restore
        batches: Iterator[Any] = super().__iter__()
        return batches


class _Samples(StreamingDataset):
    """Samples with the epoch in which they are shown, counted from 0."""

    def __getitem__(self, index: Any) -> Any:
        return self.current_epoch - 1, super().__getitem__(index)


class Streamed:
    """The pixels of the persons of one batch, see :class:`kdpose.data.dataset.Pixels`."""

    def __init__(self, samples: Sequence[dict[str, Any]] = ()) -> None:
        self._samples = {int(sample["row"]): sample for sample in samples}

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        """A person's crop ``(h, w, 3)``, RGB.

        Raises:
            UnreadableImage: the image could not be read when the pack was written.
        """
        data: bytes = self._samples[row]["jpeg"]
        check_stored(data, row, "the pack of the shards")
        return decode_jpeg(data, height)

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)``."""
        return np.array([self._samples[row]["frame"] for row in rows.tolist()])


class _Crops:
    """Makes a batch of samples, in the process that has read them."""

    def __init__(self, data: PoseDataset, on_device: bool) -> None:
        self._data = data
        self._batches = SourceDataset(data) if on_device else data

    def __call__(self, items: Sequence[tuple[int, dict[str, Any]]]) -> Any:
        self._data.pixels = Streamed([sample for _, sample in items])
        return self._batches.__getitems__([(epoch, int(sample["row"])) for epoch, sample in items])
