"""A network asked once per person: its answers are stored and teach from then on."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdpose.checkpoints.guest_net import GuestNet, weights_hash
from kdpose.data.annotations import Persons
from kdpose.data.dataset import PoseDataset, check_images
from kdpose.data.taught import in_joints_of
from kdpose.data.transforms import PADDING
from kdpose.evaluation.evaluate import predict_poses
from kdpose.metrics.pose_results import Predictions
from kdpose.pose_net import PoseNet
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.skeleton import Skeleton
from kdpose.training.stored_teacher import StoredTeacher

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskedTeacher:
    """A network that answers once, for the upright crop averaged with its mirror image.

    Attributes:
        net: the network.
        folder: where the answers are kept, by hashes of the network, its options and the
            annotations.
        options: what the answers depend on besides the weights.
    """

    net: PoseNet | GuestNet
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the network, for messages and file names."""
        return self.net.name if isinstance(self.net, GuestNet) else Path(self.options["ckpt"]).stem

    def ask(
        self,
        parts: Sequence[Mapping[str, str]],
        student: Skeleton,
        **how: Any,  # noqa: ANN401
    ) -> StoredTeacher:
        """The stored answers for training sets, made where they are not there yet.

        Args:
            parts: ``annotations`` and ``images`` of each.
            student: skeleton of the student.
            how: ``batch_size``, ``num_workers`` and ``device`` of :func:`predict_poses`.
        """
        files = [self._answers(part, student, how) for part in parts]
        return StoredTeacher(files, self.net.skeleton)

    def _answers(self, part: Mapping[str, str], student: Skeleton, how: Mapping[str, Any]) -> str:
        annotations = Path(part["annotations"])
        net = self.net
        asked = [net.fingerprint() if isinstance(net, GuestNet) else weights_hash(net)]
        asked += [sha256(annotations), json.dumps(self.options, sort_keys=True, default=str)]
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
        _log.info("teacher: %s answers for %d persons", self.name, len(persons))
        poses = predict_poses(net, dataset, flip=True, **how)
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(_results(persons, poses)))
        unfinished.rename(file)
        return str(file)


def _results(persons: Persons, poses: Predictions) -> list[dict[str, Any]]:
    """COCO results of every person, with the annotation's id and box."""
    results = []
    for i, row in enumerate(poses.person.tolist()):
        points = [
            [round(float(x), 3), round(float(y), 3), round(float(s), 4)]
            for (x, y), s in zip(poses.keypoints[i], poses.joint_scores[i], strict=True)
        ]
        result = {
            "image_id": int(persons.image_id[row]),
            "category_id": 1,
            "bbox": [round(float(v), 2) for v in persons.box[row]],
            "keypoints": [value for point in points for value in point],
            "score": float(poses.joint_scores[i].mean()),
        }
        number = -1 if persons.annotation_id is None else int(persons.annotation_id[row])
        results.append(result | ({"id": number} if number >= 0 else {}))
    return results
