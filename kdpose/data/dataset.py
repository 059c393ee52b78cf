"""Persons as network crops, one item a person."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from kdpose.data.annotations import Persons
from kdpose.data.transforms import (
    Augmentation,
    CropPlan,
    augmented,
    box_region,
    warp,
    warp_joints,
)
from kdpose.keypoints import Skeleton
from kdpose.types import PoseBatch


def check_images(persons: Persons, images: str | Path, key: str) -> None:
    """Make sure that every person's image is there.

    Raises:
        FileNotFoundError: the folder or some image is missing, with the count and the first.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no image folder at {folder.absolute()} (from {key}); "
            "set dataset.root or KDPOSE_DATA to where the data lies"
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

    Args:
        persons: who to show.
        images: folder of the image files.
        skeleton: for the flip's joint order and the half-body split.
        input_size: W, H of the crop.
        teacher_size: W, H of a second crop for a teacher whose input differs.
        augmentation: of training; None shows the padded box.
        seed: of the augmentation, which depends on (seed, epoch, person) alone, so that a
            resumed run sees what an uninterrupted one would have seen.
        cache_images: how many decoded images each process keeps, the first it opens; for data
            that fits the memory and is shown many times.
    """

    def __init__(
        self,
        persons: Persons,
        images: str | Path,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        teacher_size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache_images: int = 0,
    ) -> None:
        self.persons = persons
        self.images = Path(images)
        self.skeleton = skeleton
        self.input_size = input_size
        self.teacher_size = teacher_size if teacher_size != input_size else None
        self.augmentation = augmentation
        self.seed = seed
        self.cache_images = cache_images
        self._opened: dict[str, Image.Image] = {}

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.persons)

    def __getitem__(self, index: int | tuple[int, int]) -> PoseBatch:
        """One person; ``index`` is a row, or (epoch, row) for augmented views."""
        epoch, row = index if isinstance(index, tuple) else (0, index)
        joints, visible = self.persons.joints[row], self.persons.visible[row]
        width, height = self.input_size
        plan = CropPlan(*box_region(self.persons.box[row], width / height))
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, row])
            plan = augmented(plan, joints, visible, self.skeleton, self.augmentation, rng)
        image = self._open(row)
        matrix = plan.matrix(self.input_size, image.width)
        joints = warp_joints(joints, matrix)
        if plan.flip:
            order = list(self.skeleton.flip_order)
            joints, visible = joints[order], visible[order]
        second = None
        if self.teacher_size is not None:
            larger = plan.matrix(self.teacher_size, image.width)
            second = _tensor(warp(image, larger, self.teacher_size))
        return PoseBatch(
            image=_tensor(warp(image, matrix, self.input_size)),
            joints=torch.from_numpy(joints),
            visible=torch.from_numpy(visible.copy()),
            center=torch.from_numpy(plan.center),
            size=torch.from_numpy(plan.size),
            image_id=torch.tensor(self.persons.image_id[row]),
            person=torch.tensor(row),
            box_score=torch.tensor(self.persons.box_score[row]),
            teacher_image=second,
        )

    def _open(self, row: int) -> Image.Image:
        name = str(self.persons.files[row])
        if name in self._opened:
            return self._opened[name]
        path = self.images / name
        try:
            with Image.open(path) as file:  # EXIF rotation is ignored, as the annotations do
                image = file.convert("RGB")
        except OSError as error:
            raise ValueError(f"cannot read the image {path.absolute()}: {error}") from None
        if len(self._opened) < self.cache_images:
            self._opened[name] = image
        return image


def _tensor(crop: NDArray[np.uint8]) -> Tensor:
    """``(H, W, 3)`` to ``(3, H, W)``, uint8."""
    return torch.from_numpy(crop.transpose(2, 0, 1).copy())


def collate(items: list[PoseBatch]) -> PoseBatch:
    """Stack items field by field; a field that is None stays None."""
    columns: list[Any] = [
        None if column[0] is None else torch.stack(column) for column in zip(*items, strict=True)
    ]
    return PoseBatch(*columns)
