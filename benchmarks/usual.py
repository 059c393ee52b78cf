"""The usual training pipeline, kept as the reference of ``what=feed``.

As SimpleBaselines, HRNet and SimCC feed their networks: each sample on its own, on the host, to
the end: decode, mirror the pixels, half body, scale and rotation, warp, floats, normalisation, and
the targets joint by joint; the loader's default collation then stacks them.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from kdpose.data.annotations import Persons
from kdpose.data.transforms import Augmentation
from kdpose.skeletons.skeleton import Skeleton

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB
Sample = tuple[Tensor, Tensor, Tensor, Tensor]
Region = tuple[NDArray[np.float64], NDArray[np.float64]]


class UsualDataset(Dataset[Sample]):
    """(image, target x, target y, weight) of a person.

    Args:
        persons: who.
        images: folder of the image files.
        skeleton: of the persons.
        input_size: W, H of the crop.
        augmentation: of training.
        split_ratio: bins per pixel.
        sigma: of the targets' Gaussians, bins.
    """

    def __init__(
        self,
        persons: Persons,
        images: Path,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        augmentation: Augmentation,
        split_ratio: float = 2.0,
        sigma: float = 6.0,
    ) -> None:
        self.persons, self.images, self.skeleton = persons, images, skeleton
        self.input_size, self.augmentation = input_size, augmentation
        self.split_ratio, self.sigma = split_ratio, sigma
        self.random = np.random.default_rng(0)

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.persons)

    def __getitem__(self, row: int) -> Sample:
        """One sample, from the file to its targets."""
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imread(str(self.images / self.persons.files[row]), flags)
        assert image is not None
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        joints = self.persons.joints[row].astype(np.float64)
        visible = self.persons.visible[row].copy()
        a, random = self.augmentation, self.random
        center, size = self._box(row)
        if (visible > 0).sum() > a.half_body_joints and random.random() < a.half_body_probability:
            center, size = self._half(joints, visible) or (center, size)
        size = size * np.clip(random.standard_normal() * a.scale + 1, 1 - a.scale, 1 + a.scale)
        turn = np.clip(random.standard_normal() * a.rotation, -2 * a.rotation, 2 * a.rotation)
        turn = turn if random.random() < a.rotation_probability else 0.0
        if random.random() < a.flip_probability:
            image = image[:, ::-1]
            joints, visible, center = self._mirrored(joints, visible, center, image.shape[1])
        matrix = self._matrix(center, size, turn)
        crop = cv2.warpAffine(image, matrix, self.input_size, flags=cv2.INTER_LINEAR)
        for k in range(len(joints)):
            if visible[k] > 0:
                joints[k] = matrix[:, :2] @ joints[k] + matrix[:, 2]
        x, y, weight = self._targets(joints, visible)
        pixels = torch.from_numpy(crop.transpose(2, 0, 1).copy()).float().div(255)
        pixels.sub_(torch.tensor(MEAN)[:, None, None]).div_(torch.tensor(STD)[:, None, None])
        return pixels, torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weight)

    def _fit(self, width: float, height: float, padding: float) -> NDArray[np.float64]:
        aspect = self.input_size[0] / self.input_size[1]
        if width > aspect * height:
            height = width / aspect
        else:
            width = height * aspect
        return np.array([width, height]) * padding

    def _box(self, row: int) -> Region:
        x, y, width, height = self.persons.box[row].tolist()
        return np.array([x + width / 2, y + height / 2]), self._fit(width, height, 1.25)

    def _half(self, joints: NDArray[np.float64], visible: NDArray[np.float32]) -> Region | None:
        upper: list[NDArray[np.float64]] = []
        lower: list[NDArray[np.float64]] = []
        for k in range(len(joints)):
            if visible[k] > 0:
                (upper if k in self.skeleton.upper_body else lower).append(joints[k])
        chosen = lower if len(lower) > 2 else upper
        if self.random.standard_normal() < 0.5 and len(upper) > 2:
            chosen = upper
        if len(chosen) < 2:
            return None
        points = np.array(chosen)
        extent = points.max(0) - points.min(0)
        return points.mean(0), self._fit(max(extent[0], 1.0), max(extent[1], 1.0), 1.5)

    def _mirrored(
        self,
        joints: NDArray[np.float64],
        visible: NDArray[np.float32],
        center: NDArray[np.float64],
        width: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64]]:
        order = list(self.skeleton.flip_order)
        joints, visible = joints[order], visible[order]
        joints[:, 0] = width - 1 - joints[:, 0]
        return joints, visible, np.array([width - 1 - center[0], center[1]])

    def _matrix(
        self, center: NDArray[np.float64], size: NDArray[np.float64], degrees: float
    ) -> NDArray[np.float64]:
        """HRNet's: three points here and there, and the affine through them."""
        sin, cos = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
        width, height = self.input_size
        up = np.array([sin, -cos]) * size[0] / 2
        there = np.array([width / 2, height / 2])
        rise = np.array([0, -width / 2])
        source = [center, center + up, center + up + (-up[1], up[0])]
        target = [there, there + rise, there + rise + (-rise[1], rise[0])]
        points = np.array([source, target], np.float32)
        return np.asarray(cv2.getAffineTransform(points[0], points[1]), np.float64)

    def _targets(
        self, joints: NDArray[np.float64], visible: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        bins = [int(side * self.split_ratio) for side in self.input_size]
        x, y = (np.zeros((len(joints), count), np.float32) for count in bins)
        columns, rows = (np.arange(count, dtype=np.float32) for count in bins)
        weight = (visible > 0).astype(np.float32)
        for k in range(len(joints)):
            u, v = np.round(joints[k] * self.split_ratio)
            if not (0 <= u < bins[0] and 0 <= v < bins[1]):
                weight[k] = 0
            if weight[k] > 0:
                x[k] = np.exp(-((columns - u) ** 2) / (2 * self.sigma**2))
                y[k] = np.exp(-((rows - v) ** 2) / (2 * self.sigma**2))
        return x, y, weight
