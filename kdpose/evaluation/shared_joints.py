"""A validation split seen through the joints that two skeletons share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdpose.checkpoints.guest_net import GuestNet
from kdpose.data.annotations import Persons, load_persons
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.dataset import PoseDataset
from kdpose.data.transforms import PADDING
from kdpose.evaluation.evaluate import predict_poses
from kdpose.evaluation.score import only, reduced
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.oks import best_boxes, mean_pose, person_oks
from kdpose.metrics.people import BOX_TO_BODY
from kdpose.metrics.pose_results import Predictions, to_results
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.devices import pick_device
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.shared import SkeletonBridge


@dataclass(frozen=True)
class SharedSplit:
    """A validation split, or some of its images, and the joints to score.

    Attributes:
        data: set up.
        bridge: from the data's skeleton to the teacher's.
        flip: average with the mirrored crop, as the student is validated.
        limit: about how many boxes to look at, in whole images; None: all.
    """

    data: CocoKeypointDataModule
    bridge: SkeletonBridge
    flip: bool = True
    limit: int | None = None

    @property
    def annotations(self) -> Path:
        """The split's file."""
        return Path(self.data.splits["val"]["annotations"]).absolute()

    @cached_property
    def boxes(self) -> Persons:
        """The boxes to look at: all, or those of images drawn in an order that is always the same.

        AP needs whole images: a person that nobody looked at would count as missed.
        """
        everyone = self.data.datasets["val"].persons
        if self.limit is None or len(everyone) <= self.limit:
            return everyone
        images, counts = np.unique(everyone.image_id, return_counts=True)
        order = np.random.default_rng(0).permutation(len(images))
        enough = int(np.searchsorted(counts[order].cumsum(), self.limit)) + 1
        return everyone[np.isin(everyone.image_id, images[order[:enough]])]

    def conditions(self) -> dict[str, Any]:
        """All that figures of one network depend on here, as plain values."""
        boxes = self.data.boxes
        return {
            "annotations": str(self.annotations),
            "annotations_sha256": sha256(self.annotations),
            "train_annotations": str(Path(self.data.splits["train"]["annotations"]).absolute()),
            "box_source": boxes if boxes == "gt" else str(Path(boxes).absolute()),
            "boxes_sha256": None if boxes == "gt" else sha256(Path(boxes)),
            "joints": [self.data.skeleton.joints[k] for k in self.bridge.student_joints],
            "sigmas": self._sigmas(),
            "protocol": self.data.protocol,
            "flip": self.flip,
            "limit": self.limit,
            "version": version("kdpose"),
        }

    def measure(
        self, net: PoseNet | RefinedPoseNet | GuestNet, joints: Sequence[int], device: str
    ) -> dict[str, Any]:
        """Look at the boxes with a network.

        Args:
            net: of any input size and skeleton.
            joints: where the shared joints are in its skeleton.
            device: ``auto``, ``cpu``, ``cuda``.

        Returns:
            ``AP``; ``persons`` and ``images``; ``mean_oks``, and ``chance_oks`` of the mean
            training pose put into the same boxes; ``spread``, how far the joints scatter over all
            crops: the mean standard deviation, in crop sides.
        """
        found = self._poses(net, device)
        place = (found.keypoints - found.center[:, None]) / found.size[:, None]
        box = self.boxes.box[:, None]
        known = self.data.datasets["train"].persons
        guess = box[..., :2] + mean_pose(known.joints, known.visible, known.box) * box[..., 2:]
        return {
            "AP": self.ap(
                to_results(
                    found,
                    net.skeleton.sigmas,
                    threshold=net.score_threshold,
                    categories=self.boxes.category,
                ),
                joints,
            ),
            "persons": len(self.boxes),
            "images": len(np.unique(self.boxes.image_id)),
            "mean_oks": self._mean_oks(found.keypoints[:, list(joints)]),
            "chance_oks": self._mean_oks(guess[:, list(self.bridge.student_joints)]),
            "spread": float(place[:, list(joints)].std(axis=0, dtype=np.float64).mean()),
        }

    def ap(self, results: Sequence[Mapping[str, Any]], joints: Sequence[int]) -> float | None:
        """AP on the shared joints alone.

        Args:
            results: COCO results of any skeleton.
            joints: where the shared joints are in it.
        """
        seen = set(self.boxes.image_id.tolist())
        part = len(self.boxes) < len(self.data.datasets["val"])
        return keypoint_ap(
            self._shared_labels,
            [
                {**result, "keypoints": only(result["keypoints"], joints)}
                for result in results
                if not part or result["image_id"] in seen
            ],
            protocol=self.data.protocol,
            sigmas=self._sigmas(),
            image_ids=sorted(seen) if part else None,
        )["AP"]

    @cached_property
    def _shared_labels(self) -> AnnotationFile:
        """The annotations with the shared joints alone."""
        return reduced(self._truth, self.bridge.student_joints)

    @cached_property
    def _truth(self) -> AnnotationFile:
        return AnnotationFile.read(self.annotations)

    def _poses(self, net: PoseNet | RefinedPoseNet | GuestNet, device: str) -> Predictions:
        folder = self.data.splits["val"]["images"]
        padding = net.padding if isinstance(net, GuestNet) else PADDING
        dataset = PoseDataset(
            self.boxes, folder, self.data.skeleton, net.codec.input_size, padding=padding
        )
        net.to(pick_device(device))  # not below: weights moved in inference mode cannot be trained
        with torch.random.fork_rng(devices=[]):  # the training draws what it would draw anyway
            return predict_poses(
                net,
                dataset,
                flip=self.flip,
                batch_size=self.data.batch_size,
                num_workers=self.data.num_workers,
                device=device,
            )

    @cached_property
    def _labelled(self) -> tuple[np.ndarray, tuple[Any, ...]]:
        """Rows of the boxes that show a labelled person, and what OKS wants of that person."""
        truth = load_persons(self._truth, self.data.skeleton, "dataset.val.annotations")
        boxes, ours = self.boxes, list(self.bridge.student_joints)
        persons, rows = best_boxes(truth.box, truth.image_id, boxes.box, boxes.image_id)
        area = BOX_TO_BODY * truth.box[persons, 2:].prod(axis=1)
        joints, visible = truth.joints[persons][:, ours], truth.visible[persons][:, ours]
        return rows, (joints, visible, area, self._sigmas())

    def _mean_oks(self, joints: np.ndarray) -> float:
        """Of poses ``(N, S, 2)``, one a box."""
        rows, labels = self._labelled
        return float(np.nanmean(person_oks(joints[rows], *labels)))

    def _sigmas(self) -> list[float]:
        return [self.data.skeleton.sigmas[k] for k in self.bridge.student_joints]
