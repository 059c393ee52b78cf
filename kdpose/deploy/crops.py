"""Persons as network crops, to compare an exported file with PyTorch on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from kdpose.cli import console
from kdpose.data.annotations import Persons, load_persons
from kdpose.data.dataset import PoseDataset, check_images, collate
from kdpose.data.sources.images import open_image
from kdpose.evaluation.evaluate import joint_bridge
from kdpose.evaluation.score import only, reduced
from kdpose.inference.images import ImageFile, find_images
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.pose_results import PoseResults, to_results
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.image_header import UnreadableImage
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.types import PoseBatch

Array = NDArray[np.float32]
Net = PoseNet | RefinedPoseNet
Detect = Callable[[Image.Image], tuple[Array, Array]]  # a picture's boxes (P, 4) and scores (P,)


@dataclass(frozen=True)
class Labels:
    """What poses on the crops are scored against.

    Attributes:
        annotations: the file, with the joints alone that the network has, too.
        bridge: from the file's joints to the network's.
        protocol: ``coco`` or ``crowdpose``.
        threshold: joint scores up to this do not enter a person's score, as in ``kdpose evaluate``.
        category: ``(P,)`` of each person of the file.
    """

    annotations: AnnotationFile
    bridge: SkeletonBridge
    protocol: Any
    threshold: float
    category: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Crops:
    """N persons as network crops.

    Attributes:
        batch: the crops, uint8, and their regions.
        extent: ``(N,)`` size of each person: the root of the box's area, crop pixels.
        sigmas: of the network's joints.
        source: where the persons come from: an annotation file or a folder.
        labels: None: the persons are not labelled, or share no joints with the network.
    """

    batch: PoseBatch
    extent: Array
    sigmas: Sequence[float]
    source: Path
    labels: Labels | None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``(N, 3, H, W)``."""
        return self.batch.image.numpy()

    def __len__(self) -> int:
        """Number of persons."""
        return len(self.batch.image)

    def average_precision(self, joints: Array, scores: Array) -> float | None:
        """AP of poses in percent on the crops' images; None without labels.

        Args:
            joints: ``(N, K, 2)``, crop pixels.
            scores: ``(N, K)``.
        """
        if self.labels is None:
            return None
        height, width = self.batch.image.shape[-2:]
        batch, poses = self.batch, PoseResults((width, height))
        poses.update(
            batch.image_id,
            batch.person,
            torch.from_numpy(joints),
            torch.from_numpy(scores),
            batch.box_score,
            batch.center,
            batch.size,
        )
        bridge, kinds = self.labels.bridge, self.labels.category
        least = self.labels.threshold
        results = to_results(poses.compute(), self.sigmas, threshold=least, categories=kinds)
        found = keypoint_ap(
            self.labels.annotations,
            [{**r, "keypoints": only(r["keypoints"], bridge.teacher_joints)} for r in results],
            protocol=self.labels.protocol,
            sigmas=bridge.shared.sigmas,
            image_ids=sorted(set(batch.image_id.tolist())),
        )
        return 100 * (found["AP"] or 0.0)


def labelled_crops(
    annotations: str | Path,
    images: str | Path,
    protocol: str,
    net: Net,
    persons: int,
    key: str,
    other_bodies: bool = False,
) -> Crops:
    """Crops of the persons in an annotation file's first images.

    Args:
        annotations: file; its joints are matched with the network's by name.
        images: folder of its images.
        protocol: ``coco`` or ``crowdpose``.
        net: gives input size and skeleton.
        persons: images are taken whole until there are as many.
        key: of the configuration, for errors.
        other_bodies: leave out the labels where network and file share too few joints.

    Raises:
        FileNotFoundError: the annotations or images do not exist; the message names ``key``.
        ValueError: the annotations do not fit, or share too few joints with the network.
    """
    file = AnnotationFile.read(annotations, f"{key}.annotations")
    try:
        bridge = joint_bridge(net, file)
    except ValueError:
        if not other_bodies:
            raise
        bridge = None
    skeleton = named_skeleton(file) if bridge is None else bridge.student
    everyone = load_persons(file, skeleton, f"{key}.annotations")
    check_images(everyone, images, f"{key}.images")
    dataset = PoseDataset(everyone, images, skeleton, net.codec.input_size)
    batch, extent = _cut(dataset, _first_images(everyone.image_id, persons))
    least = net.score_threshold
    about: Any = (bridge, protocol, least, everyone.category)
    labels = None if bridge is None else Labels(_fitting(file, bridge), *about)
    return Crops(batch, extent, net.skeleton.sigmas, file.path, labels)


def _first_images(image_id: NDArray[np.int64], persons: int) -> NDArray[np.int64]:
    """Rows of all persons of the first images, which together have the number asked for."""
    _, first, count = np.unique(image_id, return_index=True, return_counts=True)
    order = np.argsort(first)
    needed = int(np.searchsorted(count[order].cumsum(), persons)) + 1
    return np.flatnonzero(np.isin(image_id, image_id[first[order][:needed]]))


def _fitting(file: AnnotationFile, bridge: SkeletonBridge) -> AnnotationFile:
    """The annotations with the joints alone that the network has, too."""
    if len(bridge.student_joints) == len(bridge.student):
        return file
    return reduced(file, bridge.student_joints)


def unlabelled_crops(images: str | Path, net: Net, persons: int, key: str, detect: Detect) -> Crops:
    """Crops of the persons that a detector finds in a folder's photographs.

    Args:
        images: folder.
        net: gives input size and skeleton.
        persons: photographs are read until there are as many.
        key: of the configuration, for errors.
        detect: finds the persons' boxes.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no photograph, or nobody is found.
    """
    folder = Path(images).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"no image folder at {folder} (from {key}.images)")
    parts: list[tuple[PoseBatch, Array]] = []
    count = 0
    found = _photographs(folder, key)
    for path, number, *_ in track(found, "finding persons", console=console, transient=True):
        try:
            picture = open_image(path)
        except UnreadableImage as error:
            console.print(f"skipped: {error}", style="yellow", soft_wrap=True)
            continue
        boxes, _ = detect(picture)
        if len(boxes):
            parts.append(_from_picture(picture, boxes, number, net))
            count += len(boxes)
        if count >= persons:
            break
    if not parts:
        raise ValueError(f"the detector finds nobody in the photographs of {folder} ({key}.images)")
    extent = np.concatenate([extent for _, extent in parts])
    return Crops(_joined([batch for batch, _ in parts]), extent, net.skeleton.sigmas, folder, None)


def _joined(batches: list[PoseBatch]) -> PoseBatch:
    columns: list[Any] = [
        None if column[0] is None else torch.cat(column) for column in zip(*batches, strict=True)
    ]
    return PoseBatch(*columns)


def _photographs(folder: Path, key: str) -> list[ImageFile]:
    try:
        return find_images(str(folder))
    except ValueError:
        raise ValueError(f"no image in {folder} (from {key}.images)") from None


class _Shown:
    """The pixels of one picture, for all of its persons."""

    def __init__(self, picture: Image.Image) -> None:
        self.pixels = np.asarray(picture)

    def read(self, row: int, height: int | None = None) -> NDArray[np.uint8]:
        return self.pixels

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.tile([1.0, 1.0, 0.0, 0.0], (len(rows), 1))


def _from_picture(
    picture: Image.Image, boxes: Array, number: int, net: Net
) -> tuple[PoseBatch, Array]:
    """A picture's persons as crops, and their sizes."""
    count, joints = len(boxes), len(net.skeleton)
    persons = Persons(
        files=np.full(count, ""),
        image_id=np.full(count, number, np.int64),
        image_size=np.tile(np.array(picture.size, np.float32), (count, 1)),
        box=boxes,
        box_score=np.ones(count, np.float32),
        joints=np.zeros((count, joints, 2), np.float32),
        visible=np.zeros((count, joints), np.float32),
    )
    dataset = PoseDataset(persons, _Shown(picture), net.skeleton, net.codec.input_size)
    return _cut(dataset, np.arange(count))


def _cut(dataset: PoseDataset, rows: NDArray[np.int64]) -> tuple[PoseBatch, Array]:
    """Some persons as one batch, and their sizes ``(N,)`` in crop pixels."""
    batch = collate(dataset.__getitems__(rows.tolist()))
    box = dataset.persons.box[rows]
    scale = dataset.input_size[0] / batch.size[:, 0].numpy()
    extent = np.sqrt(box[:, 2] * box[:, 3]) * scale
    return batch._replace(image=batch.image.contiguous()), extent.astype(np.float32)
