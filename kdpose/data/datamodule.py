"""The data module that both stages share."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from kdpose.data.annotations import Persons, load_persons
from kdpose.data.dataset import Pixels, PoseDataset, check_images, collate
from kdpose.data.detections import load_detections
from kdpose.data.sampling import EpochSampler
from kdpose.data.sources.device_crop import RowBatch, SourceBatch, SourceDataset, cut
from kdpose.data.sources.packed import Pack, default_folder
from kdpose.data.sources.resident import Resident, RowDataset
from kdpose.data.taught import load_training
from kdpose.data.transforms import Augmentation
from kdpose.data.tuning import held_out
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.signals import keep_worker
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import PoseBatch


def _check_sources(
    mixed: bool, pack: str | None, shards: str | None, resident: bool, crop: str, tune: bool
) -> None:
    """Refuse sources of the training crops that exclude one another."""
    if tune and shards is not None:
        raise ValueError("data.shards streams all training crops: it needs dataset.tune=null")
    if mixed and (resident or pack is not None or shards is not None):
        raise ValueError(
            "several training sets and stored answers are read from image files: take "
            "data.pack=null data.shards=null data.resident=false"
        )
    if crop not in ("auto", "host", "device"):
        raise ValueError(f"data.crop must be auto, host or device, got {crop}")
    if shards is not None and (resident or pack is not None):
        raise ValueError("data.shards streams crops: it needs data.pack=null data.resident=false")


class CocoKeypointDataModule(L.LightningDataModule):
    """Persons of a COCO-format data set, cropped for a top-down network.

    Args:
        train: ``annotations`` and ``images`` of the training split, or a list of such.
        val: those of the validation split.
        tune: those of images of the training split that are validated on instead and not trained
            on, see :func:`kdpose.data.tuning.tuning_split`.
        skeleton: of the annotations.
        protocol: by which poses are scored, ``coco`` or ``crowdpose``.
        input_size: W, H of the student's crop.
        teacher_size: W, H of the teacher's, where it differs.
        batch_size: persons per step, an equal share of them on each device.
        num_workers: processes that cut crops.
        augmentation: of training.
        boxes: ``gt``, or a detections JSON for validation.
        seed: of order and augmentation.
        cache_images: decoded images that each worker keeps, see :class:`PoseDataset`.
        pack: of the training split: a folder that :mod:`kdpose.pack` wrote; ``auto`` takes the one
            beside the annotations where there is one; None reads the image files.
        shards: of the training split instead of a pack: where :func:`write_shards` wrote them, or
            the URL they were copied to.
        resident: keep the pack's pixels on the device; the host then sends row numbers.
        crop: where training crops are cut: ``host``, ``device``, or ``auto``, which is the
            device where that is a GPU.  Validation crops are always the host's, as evaluation's.
        taught: skeleton of a teacher whose answers are stored; None without one.
        answers: its results files, one for each training set.
        prepare: called once where the training annotations are missing; the synthetic data set
            generates itself this way.
    """

    def __init__(
        self,
        train: Mapping[str, str] | Sequence[Mapping[str, str]],
        val: Mapping[str, str],
        skeleton: Skeleton,
        protocol: Literal["coco", "crowdpose"],
        input_size: tuple[int, int],
        teacher_size: tuple[int, int] | None = None,
        batch_size: int = 32,
        num_workers: int = 2,
        augmentation: Augmentation | None = None,
        boxes: str = "gt",
        seed: int = 0,
        cache_images: int = 0,
        pack: str | None = None,
        shards: str | None = None,
        resident: bool = False,
        crop: Literal["auto", "host", "device"] = "auto",
        prepare: Callable[[], None] | None = None,
        taught: Skeleton | None = None,
        answers: Sequence[str] = (),
        tune: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        several = not isinstance(train, Mapping)
        self.parts = list(train) if isinstance(train, Sequence) else [train]
        self.splits: dict[str, Mapping[str, str]] = {"train": self.parts[0], "val": tune or val}
        self.taught, self.answers = taught, list(answers)
        self.mixed, self.tune = several or bool(self.answers), tune
        _check_sources(self.mixed, pack, shards, resident, crop, tune is not None)
        self.skeleton, self.augmentation = skeleton, augmentation or Augmentation()
        self.protocol: Literal["coco", "crowdpose"] = protocol
        self.input_size, self.teacher_size = input_size, teacher_size
        self.batch_size, self.num_workers = batch_size, num_workers
        self.boxes, self.seed, self.prepare = boxes, seed, prepare
        self.pack, self.shards, self.resident, self.crop = pack, shards, resident, crop
        self.cache_images = cache_images
        self._shards: Any = None
        self._on_device: Resident | None = None
        self.datasets: dict[str, PoseDataset] = {}

    def prepare_data(self) -> None:
        """Generate the data set where it can be generated and is not there."""
        if self.prepare is not None and not Path(self.splits["train"]["annotations"]).is_file():
            self.prepare()

    def setup(self, stage: str) -> None:
        """Read the annotations; pixels are read by the workers."""
        if self.datasets:
            return
        for split, where in self.splits.items():
            persons = self._persons(split, where["annotations"])
            self.datasets[split] = PoseDataset(
                persons,
                self._pixels(split, persons),
                self.skeleton,
                self.input_size,
                teacher_size=self.teacher_size if split == "train" else None,
                augmentation=self.augmentation if split == "train" else None,
                seed=self.seed,
                cache_images=self.cache_images,
            )

    def _persons(self, split: str, annotations: str) -> Persons:
        where = self.splits[split]
        if split == "val" and self.boxes != "gt" and self.tune is None:
            truth = AnnotationFile.read(annotations, "dataset.val.annotations", where["images"])
            return load_detections(self.boxes, truth, self.skeleton)
        if split == "train" and self.mixed:
            return load_training(self.parts, self.skeleton, self.answers, self.taught)
        key = f"dataset.{split}.annotations"
        return load_persons(annotations, self.skeleton, key, images=where["images"])

    def _pixels(self, split: str, persons: Persons) -> str | Pixels:
        """The split's pack where one is wanted, else its folder of images, which is whole."""
        where = self.splits[split]
        largest = max(self.input_size, self.teacher_size or self.input_size)
        if split == "train" and self.shards is not None:
            shards = importlib.import_module("kdpose.data.sources.streamed")  # an extra
            self._shards = shards.Shards(self.shards)
            self._shards.check(where["annotations"], self.skeleton, largest, self.augmentation)
            streamed: Pixels = shards.Streamed()
            return streamed
        if split == "train" and self.pack is not None:
            beside = default_folder(where["annotations"], largest)
            if self.pack != "auto" or beside.is_dir():
                pack = Pack(beside if self.pack == "auto" else self.pack)
                pack.check(where["annotations"], self.skeleton, largest, self.augmentation)
                return pack
        check_images(persons, where["images"], f"dataset.{split}.images")
        return where["images"]

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented training crops in a new order each epoch."""
        dataset, rows = self.datasets["train"], self._trained()
        devices, share = self._devices(), self.share()
        sampler = EpochSampler(rows, *devices, shuffle=True, seed=self.seed, drop_last=True)
        full = len(rows) >= self.batch_size
        if not len(sampler):
            raise ValueError(f"{devices[0]} devices cannot share {len(rows)} persons")
        if self.resident:
            numbers = RowDataset(len(dataset))
            return DataLoader(numbers, share, sampler=sampler, drop_last=full, collate_fn=collate)
        device = self.trainer.strategy.root_device.type if self.trainer else "cpu"
        on_device = self.crop == "device" or (self.crop == "auto" and device == "cuda")
        if self._shards is not None:
            return self._shards.batches(
                dataset,
                share,
                seed=self.seed,
                on_device=on_device,
                num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0,
                pin_memory=device == "cuda",
                worker_init_fn=keep_worker,
            )
        return self._loader(
            SourceDataset(dataset) if on_device else dataset,
            sampler=sampler,
            drop_last=full,
            pin_memory=device == "cuda",
        )

    def _trained(self) -> NDArray[np.int64]:
        """Rows of the training split without those of images that are held out."""
        persons = self.datasets["train"].persons
        if self.tune is None:
            return np.arange(len(persons))
        return np.flatnonzero(~np.isin(persons.image_id, held_out(self.tune)))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> PoseBatch:
        """Cut the crops of a batch that came without."""
        if isinstance(batch, SourceBatch):
            return cut(batch, self.datasets["train"])
        if isinstance(batch, RowBatch):
            if self._on_device is None:
                self._on_device = Resident(self.datasets["train"], batch.rows.device)
            return self._on_device(batch)
        return batch

    def val_dataloader(self) -> DataLoader[PoseBatch]:
        """Validation crops in file order; each device has every n-th, padded to an equal number.

        A padding person is identified by its row and counted once (:class:`PoseResults`).
        """
        dataset = self.datasets["val"]
        sampler: DistributedSampler[PoseBatch]
        sampler = DistributedSampler(dataset, *self._devices(), shuffle=False)
        return self._loader(dataset, sampler=sampler)

    def share(self) -> int:
        """Persons per step on each device.

        Raises:
            ValueError: the devices cannot have equal shares.
        """
        world, _ = self._devices()
        if self.batch_size % world:
            raise ValueError(
                f"data.batch_size={self.batch_size}, the persons of a step, must be a multiple of "
                f"the {world} devices that share them"
            )
        return self.batch_size // world

    def _devices(self) -> tuple[int, int]:
        """How many there are, and which of them this process has."""
        trainer = self.trainer
        return (trainer.world_size, trainer.global_rank) if trainer else (1, 0)

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.share(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            worker_init_fn=keep_worker,
            **options,
        )
