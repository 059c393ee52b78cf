"""Persons as network crops, one item a person."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from kdpose.data.annotations import Persons
from kdpose.data.sources.images import ImageFiles
from kdpose.data.taught import FLOOR
from kdpose.data.transforms import (
    PADDING,
    Augmentation,
    CropPlan,
    Draws,
    augmented,
    box_region,
    draw,
    inverse_affine,
    shown,
    warp,
    warp_joints,
    warp_spread,
)
from kdpose.runtime.annotation_file import say_once
from kdpose.runtime.files import how_to_mend
from kdpose.runtime.image_header import UnreadableImage
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import PoseBatch

Index = int | tuple[int, int]
Matrices = NDArray[np.float64]


class Pixels(Protocol):
    """Where the pixels of persons come from: image files, or a pack of crops."""

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        """The pixels ``(h, w, 3)`` that show a person: the source.

        Where only the first ``height`` rows are wanted, the others may be left out.
        """

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """``(B, 4)`` sx, sy, x, y: image pixel p is the source's ``(sx, sy) p + (x, y)``."""


def check_images(persons: Persons, images: str | Path, key: str) -> None:
    """Make sure that every person's image is there.

    Raises:
        FileNotFoundError: the folder or some image is missing, with the count and the first.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no image folder at {folder.absolute()} (from {key}); {how_to_mend(key)}"
        )
    names = np.unique(persons.files)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} images are missing in {folder.absolute()} "
            f"(from {key}), the first: {missing[0]}"
        )


class PoseDataset(Dataset[PoseBatch]):
    """Crops of persons, as uint8 with joints in crop pixels.

    A loader asks for whole batches (``__getitems__``): the numbers of a batch are worked out at
    once, its crops one by one, into place.

    Args:
        persons: who to show.
        images: folder of the image files, or a :class:`Pack` of these persons.
        skeleton: for the flip's joint order and the half-body split.
        input_size: W, H of the crop.
        teacher_size: W, H of a second crop for a teacher whose input differs.
        augmentation: of training; None shows the padded box.
        seed: of the augmentation, which depends on (seed, epoch, person) alone, so that a
            resumed run sees what an uninterrupted one would have seen.
        cache_images: see :class:`kdpose.data.sources.images.ImageFiles`.
        padding: the region's size relative to the box.
    """

    def __init__(
        self,
        persons: Persons,
        images: str | Path | Pixels,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        teacher_size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache_images: int = 0,
        padding: float = PADDING,
    ) -> None:
        self.persons = persons
        self.pixels: Pixels = (
            ImageFiles(persons.files, images, cache_images, persons.image_size)
            if isinstance(images, str | Path)
            else images
        )
        self.skeleton = skeleton
        self.input_size = input_size
        self.teacher_size = teacher_size if teacher_size != input_size else None
        self.augmentation = augmentation
        self.seed = seed
        self.padding = padding
        self._draws: tuple[int, Draws | None] = (-1, None)
        self._lost: set[int] = set()

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.persons)

    def __getitem__(self, index: Index) -> PoseBatch:
        """One person; ``index`` is a row, or (epoch, row) for augmented views."""
        batch = self.__getitems__([index])
        item: list[Any] = [None if field is None else field[0] for field in batch]
        return PoseBatch(*item)

    def __getitems__(self, indices: Sequence[Index]) -> PoseBatch:
        """Several persons of one epoch, stacked."""
        epoch, rows = split(indices)
        plan = self.plan(epoch, rows)
        sizes = [size for size in (self.input_size, self.teacher_size) if size is not None]
        matrices = [self.source_matrix(plan, rows, size) for size in sizes]
        ends = [shown(inverse_affine(m), size)[1] for m, size in zip(matrices, sizes, strict=True)]
        height = np.maximum(1, np.max(ends, axis=0)[:, 1]).tolist()
        crops = [np.empty((len(rows), size[1], size[0], 3), np.uint8) for size in sizes]
        for i, row in enumerate(rows.tolist()):
            source = self.source(row, height[i])
            for size, matrix, crop in zip(sizes, matrices, crops, strict=True):
                warp(source, matrix[i], size, out=crop[i])
        images = [torch.from_numpy(crop).permute(0, 3, 1, 2) for crop in crops]
        teacher_image = images[1] if self.teacher_size is not None else None
        return self.labels(plan, rows)._replace(image=images[0], teacher_image=teacher_image)

    def source(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        """The pixels of a person's source, see :class:`Pixels`; black where they cannot be read.

        Such a person teaches nothing and is scored as missed, see :meth:`labels`, and a warning
        names the file: one bad picture ends no training.
        """
        try:
            return self.pixels.read(row, height)
        except (FileNotFoundError, UnreadableImage) as error:
            say_once(f"skipped: {error}")
            self._lost.add(row)
            return np.zeros((1, 1, 3), np.uint8)

    def plan(self, epoch: int, rows: NDArray[np.int64]) -> CropPlan:
        """How these persons are shown in an epoch."""
        persons, (width, height) = self.persons, self.input_size
        plan = CropPlan(*box_region(persons.box[rows], width / height, self.padding))
        if self.augmentation is None:
            return plan._replace(degrees=np.zeros(len(rows)), flip=np.zeros(len(rows), bool))
        if self._draws[0] != epoch:
            self._draws = (epoch, draw(self.seed, epoch, len(self)))
        assert self._draws[1] is not None
        draws = Draws(*(table[rows] for table in self._draws[1]))
        joints, visible = known_joints(persons, rows)
        return augmented(plan, joints, visible, self.skeleton, self.augmentation, draws)

    def source_matrix(
        self, plan: CropPlan, rows: NDArray[np.int64], size: tuple[int, int]
    ) -> Matrices:
        """The ``(B, 2, 3)`` affines from the persons' sources to their crops."""
        matrix, frame = plan.matrix(size), self.pixels.frame(rows)
        linear = matrix[..., :2] / frame[:, None, :2]
        shift = matrix[..., 2:] - linear @ frame[:, 2:, None]
        return np.concatenate([linear, shift], -1)

    def labels(self, plan: CropPlan, rows: NDArray[np.int64]) -> PoseBatch:
        """All of a batch but its pixels; nothing of persons whose pixels could not be read."""
        joints = warp_joints(self.persons.joints[rows], plan.matrix(self.input_size))
        visible = self.persons.visible[rows]
        flip = np.asarray(plan.flip)
        order = list(self.skeleton.flip_order)
        joints[flip], visible[flip] = joints[flip][:, order], visible[flip][:, order]
        taught = score = spread = None
        if self.persons.taught is not None and self.persons.taught_score is not None:
            taught = warp_joints(self.persons.taught[rows], plan.matrix(self.input_size))
            score = self.persons.taught_score[rows]
            taught[flip], score[flip] = taught[flip][:, order], score[flip][:, order]
        if self.persons.taught_spread is not None:
            spread = warp_spread(self.persons.taught_spread[rows], plan.matrix(self.input_size))
            spread[flip] = spread[flip][:, order]
        lost = np.isin(rows, list(self._lost))
        visible[lost] = 0
        if score is not None:
            score[lost] = 0
        return PoseBatch(
            image=torch.empty(0, dtype=torch.uint8),
            joints=torch.from_numpy(joints),
            visible=torch.from_numpy(visible),
            center=torch.from_numpy(plan.center),
            size=torch.from_numpy(plan.size),
            image_id=torch.from_numpy(self.persons.image_id[rows]),
            person=torch.from_numpy(rows),
            box_score=torch.from_numpy(np.where(lost, np.float32(0), self.persons.box_score[rows])),
            taught=None if taught is None else torch.from_numpy(taught),
            taught_score=None if score is None else torch.from_numpy(score),
            taught_spread=None if spread is None else torch.from_numpy(spread),
        )


def known_joints(
    persons: Persons, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Labelled joints ``(B, K, 2)`` and v ``(B, K)``, where nobody labelled them the teacher's."""
    joints, visible = persons.joints[rows], persons.visible[rows]
    if persons.taught is None or persons.taught_score is None:
        return joints, visible
    lacking = visible == 0
    joints = np.where(lacking[..., None], persons.taught[rows], joints)
    seen = np.where(persons.taught_score[rows] >= FLOOR, 2, 0).astype(np.float32)
    return joints, np.where(lacking, seen, visible)


def split(indices: Sequence[Index]) -> tuple[int, NDArray[np.int64]]:
    """The epoch and the rows ``(B,)`` of a batch's indices."""
    pairs = [index if isinstance(index, tuple) else (0, index) for index in indices]
    return pairs[0][0], np.array([row for _, row in pairs], dtype=np.int64)


def collate(items: Any) -> Any:
    """Stack :class:`PoseBatch` items field by field, None where they have None.

    What a data set's ``__getitems__`` has made is a batch already and stays what it is.
    """
    if not isinstance(items, list):
        return items
    columns: list[Any] = [
        None if column[0] is None else torch.stack(column) for column in zip(*items, strict=True)
    ]
    return PoseBatch(*columns)


def spread(dataset: PoseDataset, count: int) -> PoseBatch:
    """So many persons, evenly spread over a data set: the same ones whenever it is asked."""
    rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
    return dataset.__getitems__(rows.tolist())
