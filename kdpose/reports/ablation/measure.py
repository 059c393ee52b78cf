"""A table row from its runs: means over seeds, differences from the baseline, breakdowns."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.data.annotations import Persons, load_persons
from kdpose.data.transforms import box_region
from kdpose.metrics.keypoint_ap import crowd_subsets
from kdpose.metrics.matches import average_precision
from kdpose.metrics.matching import Matches, match_persons
from kdpose.metrics.pck import torso_pck
from kdpose.metrics.people import LabelledPersons, ground_truth, read_detections
from kdpose.reports.ablation.collect import Run
from kdpose.skeletons.skeleton import Skeleton

_SAME_REGION = 0.01  # pixels: results carry three decimals
_CUTS = (0.2, 0.8)  # of crowdIndex, CrowdPose's own


@dataclass(frozen=True)
class Split:
    """The validation split that all runs were scored on.

    Attributes:
        path: of the annotation file.
        images: of the file, by id.
        truth: its persons in the form of the evaluator.
        persons: those with a ground-truth box.
        skeleton: of the persons.
    """

    path: Path
    images: dict[int, dict[str, Any]]
    truth: LabelledPersons
    persons: Persons
    skeleton: Skeleton

    @cached_property
    def image_ids(self) -> list[int]:
        """Ascending, as in :class:`Matches`."""
        return sorted(self.images)

    @cached_property
    def joint_by_joint(self) -> dict[str, LabelledPersons]:
        """The persons with only one joint, for each joint."""
        names = self.skeleton.joints
        return {n: _with(self.truth, np.arange(len(names)) == k) for k, n in enumerate(names)}

    @cached_property
    def by_visibility(self) -> dict[str, LabelledPersons]:
        """The persons with only their visible (v = 2) and only their hidden (v = 1) joints."""
        return {n: _with(self.truth, visible=v) for n, v in (("visible", 2), ("hidden", 1))}


def _with(
    truth: LabelledPersons,
    joints: NDArray[np.bool_] | None = None,
    visible: int | None = None,
) -> LabelledPersons:
    """Persons with a subset of labels; those without any are ignored, not missed."""
    kept = truth.visible > 0 if visible is None else truth.visible == visible
    if joints is not None:
        kept &= joints
    return replace(
        truth,
        visible=np.where(kept, truth.visible, 0),
        ignored=truth.ignored | ~kept.any(axis=1),
    )


def read_split(run: Run, skeleton: Skeleton) -> Split:
    """The split of a run's ``metrics.json``.

    Raises:
        FileNotFoundError: its annotation file no longer exists.
        ValueError: the file has changed since then.
    """
    path = Path(run.metrics["annotations"])
    if not path.is_file():
        raise FileNotFoundError(
            f"no annotations at {path}, on which {run.folder.absolute()} was scored"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != run.metrics["annotations_sha256"]:
        raise ValueError(f"{path} has changed since {run.folder.absolute()} was scored on it")
    data = json.loads(content)
    return Split(
        path,
        images={int(image["id"]): image for image in data["images"]},
        truth=ground_truth(data, path, run.metrics["protocol"], len(skeleton)),
        persons=load_persons(path, skeleton, "annotations"),
        skeleton=skeleton,
    )


@dataclass(frozen=True)
class Measured:
    """The metrics of one run's poses.

    Attributes:
        matches: for resampling.
        joints: AP by the OKS of each joint alone.
        occlusion: AP by the OKS of only the visible (v = 2) and only the hidden (v = 1) joints.
        crowding: AP on easy, medium and hard images; empty without a crowdIndex.
        pck: at 0.2 of the torso, and the number of persons; None if undefined.
    """

    matches: Matches
    joints: dict[str, float | None]
    occlusion: dict[str, float | None]
    crowding: dict[str, float | None] = field(default_factory=dict)
    pck: tuple[float, int] | None = None


def measure(run: Run, split: Split) -> Measured:
    """Match and break down a run's poses.

    Raises:
        ValueError: the AP of the poses differs from ``metrics.json``.
    """
    sigmas, ids = split.skeleton.sigmas, split.image_ids
    found = read_detections(run.results, split.images, split.path, len(sigmas))
    (matches,) = match_persons(split.truth, found, ids, sigmas)
    stated, again = run.metrics["AP"], average_precision(matches)
    if stated is not None and again is not None and abs(stated - again) > 1e-4:
        raise ValueError(
            f"{run.folder.absolute()}: predictions.json gives AP {again:.4f} and metrics.json "
            f"states {stated:.4f}: they are of different runs"
        )

    def ap(truth: LabelledPersons) -> float | None:
        return average_precision(match_persons(truth, found, ids, sigmas)[0])

    subsets = crowd_subsets(list(split.images.values()), _CUTS)
    crowding = {
        name: average_precision(matches, np.isin(ids, list(subset)).astype(np.int64))
        for name, subset in subsets.items()
    }
    return Measured(
        matches,
        joints={name: ap(truth) for name, truth in split.joint_by_joint.items()},
        occlusion={name: ap(truth) for name, truth in split.by_visibility.items()},
        crowding=crowding if any(subsets.values()) else {},
        pck=_pck(run, split),
    )


def ap_on(run: Run, split: Split, joints: Sequence[str]) -> float | None:
    """AP of a run's poses by the OKS of some of the split's joints alone."""
    sigmas, ids = split.skeleton.sigmas, split.image_ids
    truth = _with(split.truth, np.isin(split.skeleton.joints, joints))
    found = read_detections(run.results, split.images, split.path, len(sigmas))
    return average_precision(match_persons(truth, found, ids, sigmas)[0])


def _pck(run: Run, split: Split) -> tuple[float, int] | None:
    """PCK, which needs ground-truth boxes to assign poses to persons."""
    if run.metrics["box_source"] != "gt":
        return None
    persons = split.persons
    width, height = run.metrics["input_size"]
    poses = poses_of_persons(run.results, persons, width / height)
    return torso_pck(poses, persons.joints, persons.visible, split.skeleton)


def poses_of_persons(
    results: Sequence[Mapping[str, Any]], persons: Persons, aspect: float
) -> NDArray[np.float64]:
    """The pose found in each person's ground-truth box.

    Args:
        results: COCO results with ``region``, the crop of a pose.
        persons: N of them.
        aspect: width / height of the crops.

    Returns:
        ``(N, K, 2)``, image pixels; NaN without a pose, for example after suppression.
    """
    poses = np.full(persons.joints.shape, np.nan)
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        by_image.setdefault(int(result["image_id"]), []).append(result)
    for row, image in enumerate(persons.image_id.tolist()):
        center, size = box_region(persons.box[row], aspect)
        region = np.array([*(center - size / 2), *size])
        for result in by_image.get(image, ()):
            if np.abs(np.array(result["region"]) - region).max() <= _SAME_REGION:
                poses[row] = np.reshape(result["keypoints"], (-1, 3))[:, :2]
                break
    return poses
