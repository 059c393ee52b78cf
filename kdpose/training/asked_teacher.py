"""A network asked once per person: its answers are stored and teach from then on."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdpose.checkpoints.guest_feature import GuestFeature
from kdpose.checkpoints.guest_net import GuestNet, weights_hash
from kdpose.cli import console
from kdpose.data.annotations import Persons
from kdpose.data.dataset import PoseDataset, check_images
from kdpose.data.taught import FLOOR, StoredTeacher, in_joints_of
from kdpose.data.transforms import PADDING, warp_joints
from kdpose.evaluation.evaluate import predict_poses
from kdpose.losses.terms import LossTerm
from kdpose.metrics.pose_results import Predictions, flat_keypoints
from kdpose.pose_net import Codec, PoseNet
from kdpose.runtime.devices import pick_device
from kdpose.runtime.provenance import sha256
from kdpose.runtime.whole import write_json
from kdpose.skeletons.skeleton import Skeleton

Floats = NDArray[np.float32]
_log = logging.getLogger(__name__)
_FEWEST = 0.01  # share of the joints that must have a score that teaches
_SAMPLE = 16  # persons that the cost is measured on


@dataclass(frozen=True)
class AskedTeacher:
    """A network that answers once, for the upright crop averaged with its mirror image.

    Attributes:
        net: the network.
        folder: where the answers are kept, by hashes of the network, its options and the
            annotations.
        options: what the answers depend on besides the weights.
        spread: store how widely each answer's distribution spreads too, to teach the same width.
    """

    net: PoseNet | GuestNet
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    spread: bool = False

    @property
    def name(self) -> str:
        """Of the network, for messages and file names."""
        return self.net.name if isinstance(self.net, GuestNet) else Path(self.options["ckpt"]).stem

    def feature(self, losses: Mapping[str, LossTerm]) -> GuestFeature | None:
        """The maps that Eq. 1 compares; None where no loss needs them.

        Raises:
            ValueError: a loss needs them and the network has none to give.
        """
        if not any("teacher_feature" in term.needs for term in losses.values()):
            return None
        if isinstance(self.net, GuestNet):
            return GuestFeature(self.net)
        raise ValueError(
            f"Eq. 1 compares feature maps at every step, and teacher {self.name} teaches by stored "
            "poses: take teacher.cache=false, or loss without feature_mse"
        )

    def ask(
        self,
        parts: Sequence[Mapping[str, str]],
        student: Skeleton,
        **how: Any,
    ) -> StoredTeacher:
        """The stored answers for training sets, made where they are not there yet.

        Args:
            parts: ``annotations`` and ``images`` of each.
            student: skeleton of the student.
            how: ``batch_size``, ``num_workers`` and ``device`` of :func:`predict_poses`, and its
                ``flip``, by default true.
        """
        files = [self._answers(part, student, {"flip": True, **how}) for part in parts]
        persons = sum(len(json.loads(Path(file).read_bytes())) for file in files)
        live, stored = epoch_seconds(self.net, persons, str(how.get("device", "auto")))
        console.print(
            f"teacher: an epoch of {persons} persons costs {stored:.1g} s with its stored answers; "
            f"live, {live:.3g} s of its forward passes",
            highlight=False,
        )
        return StoredTeacher(files, self.net.skeleton)

    def _answers(self, part: Mapping[str, str], student: Skeleton, how: Mapping[str, Any]) -> str:
        annotations, net = Path(part["annotations"]), self.net
        asked = [net.fingerprint() if isinstance(net, GuestNet) else weights_hash(net)]
        asked.append(sha256(annotations))
        asked += [json.dumps(o, sort_keys=True, default=str) for o in (self.options, how["flip"])]
        asked += ["spread"] if self.spread else []
        number = hashlib.sha256("|".join(asked).encode()).hexdigest()[:12]
        file = self.folder / f"{self.name}-{annotations.stem}-{number}.json"
        if file.is_file():
            _log.info("teacher: answers of %s are in %s", self.name, file)
            return str(file)
        persons = in_joints_of(student, str(annotations), unlabelled=True)
        check_images(persons, part["images"], "dataset.train.images")
        padding = net.padding if isinstance(net, GuestNet) else PADDING
        dataset = PoseDataset(
            persons, part["images"], student, net.codec.input_size, padding=padding
        )
        console.print(
            f"teacher: {self.name} answers once for {len(persons)} persons of {annotations.name}",
            highlight=False,
        )
        with torch.random.fork_rng(devices=[]):  # the training draws the same, asked or not
            poses = predict_poses(net, dataset, spread=self.spread, **how)
        scores = (poses.joint_scores / sure_score(net)).clip(0, 1)
        self._check_scores(scores)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, _results(persons, poses, scores, self.spread))
        return str(file)

    def check_spread(self, student: Codec) -> None:
        """Refuse to store spreads that the network does not give or the student does not take.

        Raises:
            ValueError: the one or the other.
        """
        if not self.spread:
            return
        if getattr(student, "label", None) != "gaussian":
            raise ValueError(
                "teacher.spread=true sets the width of the student's targets, which only "
                "codec.label=gaussian has: take that, or teacher.spread=false"
            )
        if isinstance(self.net, GuestNet):
            width, height = self.net.codec.input_size
            crop = torch.zeros(1, 3, height, width, dtype=torch.uint8)
            if self.net.answer(crop).spread is None:
                raise ValueError(
                    f"teacher {self.name} gives joints, not distributions (heatmaps or SimCC), so "
                    "that it has no spread: teacher.spread=false"
                )

    def _check_scores(self, scores: Floats) -> None:
        """Refuse answers of which hardly one is sure enough to teach."""
        share = float((scores >= FLOOR).mean())
        if share < _FEWEST:
            raise ValueError(
                f"teacher {self.name} gives {100 * share:.1f} % of the joints a score of {FLOOR} "
                f"or more, and answers below teach nothing; one in a hundred has "
                f"{np.quantile(scores, 0.99):.2g} or more: set teacher.sure to what it gives a "
                "joint that it has no doubt of"
            )


def sure_score(net: PoseNet | GuestNet) -> float:
    """The score of a joint that a network has no doubt of.

    SimCC spreads the probability over its bins, so that a score of 0.05 may be the highest.
    """
    if isinstance(net, GuestNet):
        return 1.0
    middle = torch.tensor(net.codec.input_size).float()[None, None] // 2
    return float(net.codec.encode(middle, torch.ones(1, 1))[0].max())


@torch.inference_mode()
def epoch_seconds(net: PoseNet | GuestNet, persons: int, device: str) -> tuple[float, float]:
    """What a teacher costs an epoch, live and stored, measured on a few persons."""
    where, (width, height) = pick_device(device), net.codec.input_size
    crops = torch.zeros(_SAMPLE, 3, height, width, dtype=torch.uint8, device=where)
    net.to(where).pose(crops)  # the first call makes ready
    start = time.perf_counter()
    net.pose(crops).joints.cpu()
    live = (time.perf_counter() - start) / _SAMPLE
    joints = np.zeros((_SAMPLE, len(net.skeleton), 2), np.float32)
    start = time.perf_counter()
    warp_joints(joints, np.tile(np.eye(2, 3), (_SAMPLE, 1, 1)))
    return live * persons, (time.perf_counter() - start) / _SAMPLE * persons


def _results(
    persons: Persons, poses: Predictions, scores: Floats, spread: bool
) -> list[dict[str, Any]]:
    """COCO results of every person, with the annotation's id and box, and perhaps spreads."""
    results = []
    for i, row in enumerate(poses.person.tolist()):
        result = {
            "image_id": int(persons.image_id[row]),
            "category_id": 1,
            "bbox": [round(float(v), 2) for v in persons.box[row]],
            "keypoints": flat_keypoints(poses.keypoints[i], scores[i]),
            "score": float(scores[i].mean()),
        }
        if spread and poses.spread is not None:
            result["spread"] = [round(float(v), 2) for v in poses.spread[i].ravel()]
        number = -1 if persons.annotation_id is None else int(persons.annotation_id[row])
        results.append(result | ({"id": number} if number >= 0 else {}))
    return results
