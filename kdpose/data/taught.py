"""Training persons from several files, and the joints that a teacher has stored for them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdpose.data.annotations import Persons, concatenate, load_persons
from kdpose.data.results import read_poses
from kdpose.skeletons.files import annotated_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.skeleton import Skeleton

if TYPE_CHECKING:  # it brings torch, which the doctor answers without
    from kdpose.checkpoints.guest_feature import GuestFeature

FLOOR = 0.2  # a stored joint of a lower score teaches nothing
_MATCHED = 0.5  # share of the persons that stored answers must be found for
_OVERLAP = 0.5  # least IoU of a person's box and an answer's, where ids do not match
_log = logging.getLogger(__name__)
Split = Mapping[str, str]


@dataclass(frozen=True)
class StoredTeacher:
    """A teacher whose answers are stored: results files in COCO's form.

    Attributes:
        file: one results file, or one for each training set.
        skeleton: whose joints they have.
        feature: the maps of the network that gave the answers, for Eq. 1; None: not at hand.
    """

    file: str | Sequence[str]
    skeleton: Skeleton
    feature: "GuestFeature | None" = None

    @property
    def files(self) -> list[str]:
        """The files, in the training sets' order."""
        return [self.file] if isinstance(self.file, str) else [str(f) for f in self.file]


def load_training(
    parts: Sequence[Split], skeleton: Skeleton, answers: Sequence[str], taught: Skeleton | None
) -> Persons:
    """The persons of several data sets, in the joints of one skeleton.

    Args:
        parts: ``annotations`` and ``images`` of each; another skeleton's joints are taken by name.
        skeleton: of the student.
        answers: the teacher's stored results, one file for each part; none without a teacher.
        taught: the teacher's skeleton.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file does not fit, or the answers are of other persons.
    """
    loaded = []
    annotations, folders = ([part[key] for part in parts] for key in ("annotations", "images"))
    known = answered(annotations, skeleton, answers, taught, folders=folders)
    for part, persons in zip(parts, known, strict=True):
        folder = Path(part["images"]).absolute()
        files = np.array([str(folder / name) for name in persons.files])
        loaded.append(replace(persons, files=files))
        _log.info("%s: %s", part["annotations"], describe(persons, skeleton))
    if any(part.taught_spread is not None for part in loaded):
        loaded = [
            part if part.taught_spread is not None else _without_spread(part) for part in loaded
        ]
    return concatenate(*loaded)


def _without_spread(persons: Persons) -> Persons:
    """The persons with unknown spreads, for a set joined with one that has spreads."""
    return replace(persons, taught_spread=np.zeros_like(persons.joints))


def answered(
    annotations: Sequence[str],
    skeleton: Skeleton,
    answers: Sequence[str],
    taught: Skeleton | None,
    boxes_alone: bool = False,
    folders: Sequence[str | None] = (),
) -> list[Persons]:
    """The persons of annotation files with what stored answers say of them.

    Args:
        annotations: the files.
        skeleton: see :func:`load_training`.
        answers: see there.
        taught: see there.
        boxes_alone: keep persons that nobody knows a joint of.
        folders: of each file's images, for sizes that it lacks.

    Raises:
        FileNotFoundError: see :func:`load_training`.
        ValueError: see there.
    """
    if answers and len(answers) != len(annotations):
        raise ValueError(
            f"teacher.file must name one file of answers per training set: {len(annotations)} "
            f"sets, {len(answers)} files"
        )
    unlabelled = boxes_alone or bool(answers)
    places = list(folders) or [None] * len(annotations)
    persons = [
        in_joints_of(skeleton, file, unlabelled, place)
        for file, place in zip(annotations, places, strict=True)
    ]
    if not answers:
        return persons
    assert taught is not None
    return [attach(p, a, skeleton, taught) for p, a in zip(persons, answers, strict=True)]


def describe(persons: Persons, skeleton: Skeleton) -> str:
    """How many persons have each joint from labels, from the teacher, and from both."""
    labelled = persons.visible > 0
    taught = labelled & False if persons.taught_score is None else persons.taught_score >= FLOOR
    counts = [
        f"{name} {labelled[:, k].sum()}/{taught[:, k].sum()}/{(labelled & taught)[:, k].sum()}"
        for k, name in enumerate(skeleton.joints)
    ]
    return f"{len(persons)} persons; labelled/taught/both: {', '.join(counts)}"


def attach(persons: Persons, path: str, skeleton: Skeleton, taught: Skeleton) -> Persons:
    """Give persons the joints that a results file has for them.

    A result belongs to the annotation of its ``id``, where that lies in the same image; else to
    the person of its image whose box overlaps it most.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it holds no results, or most persons have none.
    """
    where = f"{Path(path).absolute()} (from teacher.file)"
    results = read_poses(path, "teacher.file", scored=False)
    rows = _rows(persons, results)
    taught_persons = _with_answers(
        persons, results, rows, SkeletonBridge.between(skeleton, taught), where
    )
    share = len(np.unique(rows[rows >= 0])) / len(persons)
    if share < _MATCHED:
        raise ValueError(
            f"{where} has answers for {100 * share:.0f} % of {len(persons)} persons, and must "
            f"have them for {100 * _MATCHED:.0f} %: take the results of the same annotations"
        )
    _log.info("%s: answers for %.1f %% of %d persons", where, 100 * share, len(persons))
    return taught_persons


def _with_answers(
    persons: Persons,
    results: Sequence[Mapping[str, Any]],
    rows: NDArray[np.int64],
    bridge: SkeletonBridge,
    where: str,
) -> Persons:
    """The persons with the results of their rows, in the student's joints."""
    taught = bridge.teacher
    joints = np.zeros_like(persons.joints)
    score, spread = np.zeros_like(persons.visible), np.zeros_like(persons.joints)
    ours, its = list(bridge.student_joints), list(bridge.teacher_joints)
    for row, result in zip(rows.tolist(), results, strict=True):
        points = np.asarray(result.get("keypoints", ()), np.float32)
        if points.size != 3 * len(taught):
            raise ValueError(
                f"{where}: a result has {points.size / 3:g} joints and skeleton '{taught.name}' "
                f"{len(taught)}"
            )
        if row >= 0:
            points = points.reshape(-1, 3)[its]
            joints[row, ours] = points[:, :2]
            score[row, ours] = points[:, 2].clip(0, 1)
            if result.get("spread"):
                spread[row, ours] = _spread(result["spread"], len(taught), where)[its]
    return replace(
        persons,
        taught=joints,
        taught_score=np.nan_to_num(score),
        taught_spread=spread if spread.any() else None,
    )


def _spread(values: Any, joints: int, where: str) -> NDArray[np.float32]:
    """``(K, 2)`` standard deviations of a result's joints, pixels."""
    spread = np.asarray(values, np.float32)
    if spread.shape != (2 * joints,) or not (np.isfinite(spread) & (spread >= 0)).all():
        raise ValueError(
            f"{where}: 'spread' must be {2 * joints} numbers, the standard deviations along x and "
            f"y of each joint in pixels, 0 where unknown, got {str(values)[:60]}"
        )
    return spread.reshape(-1, 2)


def _rows(persons: Persons, results: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """``(R,)`` the person of each result, -1 for none."""
    ids = persons.annotation_id
    by_id = {} if ids is None else {i: row for row, i in enumerate(ids.tolist()) if i >= 0}
    by_image: dict[int, list[int]] = {}
    for row, image in enumerate(persons.image_id.tolist()):
        by_image.setdefault(image, []).append(row)
    rows = np.full(len(results), -1, np.int64)
    for number, result in enumerate(results):
        image = int(result.get("image_id", -1))
        row = by_id.get(result.get("id"), -1)
        if row >= 0 and persons.image_id[row] == image:
            rows[number] = row
        elif image in by_image and result.get("bbox"):
            candidates = np.array(by_image[image])
            overlap = _iou(np.asarray(result["bbox"], np.float64), persons.box[candidates])
            if overlap.max() >= _OVERLAP:
                rows[number] = candidates[overlap.argmax()]
    return rows


def _iou(box: NDArray[np.float64], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of one box x, y, width, height with ``(N, 4)``."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return np.asarray(
        shared / np.maximum(box[2:].prod() + boxes[:, 2:].prod(axis=1) - shared, 1e-9)
    )


def in_joints_of(
    skeleton: Skeleton, annotations: str, unlabelled: bool, images: str | None = None
) -> Persons:
    """The persons of a file, their joints in another skeleton's places."""
    key = "dataset.train.annotations"
    try:
        own = annotated_skeleton(annotations)
    except ValueError:  # boxes alone
        return load_persons(annotations, skeleton, key, unlabelled, images)
    persons = load_persons(annotations, own, key, unlabelled, images)
    if own.joints == skeleton.joints:
        return persons
    bridge = SkeletonBridge.between(skeleton, own)
    joints = np.zeros((len(persons), len(skeleton), 2), np.float32)
    visible = np.zeros((len(persons), len(skeleton)), np.float32)
    joints[:, bridge.student_joints] = persons.joints[:, bridge.teacher_joints]
    visible[:, bridge.student_joints] = persons.visible[:, bridge.teacher_joints]
    return replace(persons, joints=joints, visible=visible)
