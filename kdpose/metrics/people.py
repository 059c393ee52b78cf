"""Labelled persons and found poses as arrays, read from COCO-style content and checked."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BOX_TO_BODY = 0.53  # CrowdPose's share of a box that a body covers, in lieu of a segmented area
_log = logging.getLogger(__name__)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledPersons:
    """The G persons of an annotation file, in its order.

    Attributes:
        image: ``(G,)`` ids of their images.
        joints: ``(G, K, 2)``, image pixels.
        visible: ``(G, K)``, COCO's v.
        box: ``(G, 4)`` x, y, width, height.
        area: ``(G,)`` square image pixels, by which OKS scales.
        ignored: ``(G,)`` whether neither finding nor missing the person counts.
        crowd: ``(G,)`` whether it is a crowd, which any number of poses may match.
    """

    image: NDArray[np.int64]
    joints: Floats
    visible: Floats
    box: Floats
    area: Floats
    ignored: NDArray[np.bool_]
    crowd: NDArray[np.bool_]


@dataclass(frozen=True)
class FoundPoses:
    """D results, in the order given.

    Attributes:
        image: ``(D,)`` ids of their images.
        joints: ``(D, K, 2)``, image pixels.
        score: ``(D,)``.
        area: ``(D,)`` square image pixels, of the box or of the joints' extent.
    """

    image: NDArray[np.int64]
    joints: Floats
    score: Floats
    area: Floats


def ground_truth(
    data: Mapping[str, Any], path: Path, protocol: str, joints: int
) -> LabelledPersons:
    """The file's persons with keypoints.

    Raises:
        ValueError: a person has another number of joints.
    """
    listed = [a for a in data.get("annotations") or () if a.get("keypoints")]
    persons = [person for person in listed if "bbox" in person]
    if len(persons) < len(listed):  # whose joints are not labelled, or they would have a box
        left_out = len(listed) - len(persons)
        _log.warning("%s: %d persons without joints and box are left out", path, left_out)
    for number, person in enumerate(persons, start=1):
        if len(person["keypoints"]) != 3 * joints:
            raise ValueError(
                f"{path}: person {person.get('id', number)} has {len(person['keypoints']) / 3:g} "
                f"joints, must be {joints} as there are sigmas"
            )
    points = np.array([p["keypoints"] for p in persons], np.float64).reshape(-1, joints, 3)
    labelled = (points[..., 2] > 0).sum(axis=1).tolist()
    counted = [p.get("num_keypoints", n) for p, n in zip(persons, labelled, strict=True)]
    crowd = np.array([bool(p.get("iscrowd")) for p in persons], dtype=bool)
    return LabelledPersons(
        image=np.array([int(p["image_id"]) for p in persons], np.int64),
        joints=points[..., :2],
        visible=points[..., 2],
        box=np.array([p["bbox"] for p in persons], np.float64).reshape(-1, 4),
        area=_body_areas(persons, protocol, path),
        ignored=crowd | (np.array(counted, np.int64) == 0),
        crowd=crowd,
    )


def _body_areas(persons: Sequence[Mapping[str, Any]], protocol: str, path: Path) -> Floats:
    """``(G,)``: of the segmentation, or by the box where there is none or CrowdPose wants it."""
    own = [person.get("area") if protocol == "coco" else None for person in persons]
    if protocol == "coco" and None in own:
        said = "%s: %d of %d persons have no 'area': using %g of the box, unlike COCO's figures"
        _log.warning(said, path, own.count(None), len(persons), BOX_TO_BODY)
    of_box = [person["bbox"][2] * person["bbox"][3] * BOX_TO_BODY for person in persons]
    return np.array([b if a is None else a for a, b in zip(own, of_box, strict=True)], np.float64)


def read_detections(
    results: Sequence[Mapping[str, Any]], images: Collection[int], path: Path, joints: int
) -> FoundPoses:
    """COCO results, checked.

    Raises:
        ValueError: a result lacks a field, has another number of joints, is not finite, or names
            an image that the file does not have.
    """
    count = len(results)
    for index, result in enumerate(results):
        if "image_id" not in result or "keypoints" not in result or "score" not in result:
            lacking = [k for k in ("image_id", "keypoints", "score") if k not in result]
            raise ValueError(f"result {index} lacks {lacking}: it has {sorted(result)[:8]}")
    image = np.fromiter((int(r["image_id"]) for r in results), np.int64, count)
    check_known("results", image, images, path)
    keypoints = [r["keypoints"] for r in results]
    sizes = np.fromiter(map(len, keypoints), np.int64, count)
    if (sizes != 3 * joints).any():
        index = int(np.argmax(sizes != 3 * joints))
        raise ValueError(
            f"result {index} must have {3 * joints} keypoint numbers (x, y, score for each of "
            f"{joints} sigmas), got {sizes[index]}"
        )
    points = np.fromiter(chain.from_iterable(keypoints), np.float64, count * 3 * joints)
    points = points.reshape(count, joints, 3)
    score = np.fromiter((r["score"] for r in results), np.float64, count)
    # An OKS that is not a number would pass every threshold and count as a perfect match.
    finite = np.isfinite(points).all(axis=(1, 2)) & np.isfinite(score)
    if not finite.all():
        index = int(np.argmin(finite))
        raise ValueError(
            f"result {index} (image {image[index]}) must have finite keypoints and score, "
            "got nan or inf"
        )
    return FoundPoses(image, points[..., :2], score, _areas(results, points[..., :2]))


def has_boxes(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the results' areas are those of their boxes: as in pycocotools, the first decides."""
    return bool(results) and bool(results[0].get("bbox"))


def _areas(results: Sequence[Mapping[str, Any]], joints: Floats) -> Floats:
    """``(D,)``, of the boxes or of the joints' extents."""
    if not has_boxes(results):
        width, height = (joints.max(axis=1) - joints.min(axis=1)).T
        return np.asarray(width * height)
    for index, result in enumerate(results):
        if not result.get("bbox"):
            raise ValueError(f"result {index} must have a 'bbox' as the first result has")
    boxes = np.array([result["bbox"] for result in results], np.float64)
    return np.asarray(boxes[:, 2] * boxes[:, 3])


def check_known(what: str, named: NDArray[np.int64], images: Collection[int], path: Path) -> None:
    """Refuse image ids that the file does not have.

    Raises:
        ValueError: with their number and an example.
    """
    unknown = ~np.isin(named, np.fromiter(images, np.int64, len(images)))
    if unknown.any():
        raise ValueError(
            f"{unknown.sum()} of {len(named)} {what} name images that are not in {path}, "
            f"e.g. id {named[unknown][0]}"
        )
