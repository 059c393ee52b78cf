"""Keypoint AP by the protocols of COCO and CrowdPose, over faster-coco-eval's evaluator."""

import json
import logging
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

MAX_DETECTIONS = 20  # of an image, the best; COCO's and CrowdPose's
_log = logging.getLogger(__name__)
BOX_TO_BODY = 0.53  # CrowdPose's share of a box that a body covers, in lieu of a segmented area


def keypoint_ap(
    annotations: str | Path,
    results: Sequence[Mapping[str, Any]],
    *,
    protocol: Literal["coco", "crowdpose"],
    sigmas: Sequence[float],
    image_ids: Sequence[int] | None = None,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
) -> dict[str, float | None]:
    """Average precision and recall of poses against a COCO-style annotation file.

    All annotations with keypoints and all results count as one class, person. Persons with
    ``iscrowd`` or a ``num_keypoints`` of 0 *in the file* are ignored by both protocols (CrowdPose
    counts joints 0-11 there, so a labelled head alone does not make a person count). OKS uses the
    file's ``area`` under ``coco`` and 0.53 w h of the box under ``crowdpose``.

    Args:
        annotations: the annotation file.
        results: COCO results, each with ``image_id``, ``keypoints`` (x, y, score; image pixels)
            and ``score``. As in COCO's own evaluator, where the first result has a ``bbox`` the
            boxes take the place of the keypoints' extents as the detections' areas, which moves
            ``APM`` and ``APL``; otherwise all boxes are passed over.
        protocol: ``coco`` adds AP by size, ``crowdpose`` AP by the images' ``crowdIndex``.
        sigmas: K OKS constants.
        image_ids: evaluate on these images alone; None for all of the file's.
        crowd_cuts: an image is easy below the first ``crowdIndex`` and medium below the second;
            one without the field is none of the three. The defaults are the evaluator's that
            published figures come from.

    Returns:
        ``AP AP50 AP75 AR`` and ``APM APL`` or ``AP_easy AP_medium AP_hard``, as fractions; the last
        three are rounded to four decimals, as CrowdPose's evaluator does. None where no person of
        that kind is to be found, so that nothing could be measured.

    Raises:
        FileNotFoundError: the annotation file is not there.
        ValueError: the protocol is unknown, or results, annotations, sigmas and image ids do not
            fit one another, or a result is not finite.
    """
    path = Path(annotations).absolute()
    data = _read(path, protocol, crowd_cuts)
    images = {int(image["id"]): image for image in data["images"]}
    chosen = sorted(images if image_ids is None else {int(i) for i in image_ids})
    _check_known("image_ids", chosen, images, path)
    truth = ground_truth(data, path, protocol, len(sigmas))
    found = read_detections(results, images, path, len(sigmas))

    precision, recall = precision_recall(truth, found, set(chosen), sigmas)
    figures = {
        "AP": mean_defined(precision[..., 0]),
        "AP50": mean_defined(precision[0, :, 0]),
        "AP75": mean_defined(precision[5, :, 0]),
        "AR": mean_defined(recall[..., 0]),
    }
    if protocol == "coco":
        return figures | {
            "APM": mean_defined(precision[..., 1]),
            "APL": mean_defined(precision[..., 2]),
        }
    for name, subset in crowd_subsets([images[i] for i in chosen], crowd_cuts).items():
        value = mean_defined(precision_recall(truth, found, subset, sigmas)[0][..., 0])
        figures[f"AP_{name}"] = None if value is None else round(value, 4)
    return figures


def _read(path: Path, protocol: str, crowd_cuts: tuple[float, float]) -> dict[str, Any]:
    """The annotation file, once the arguments are known to make sense."""
    if protocol not in ("coco", "crowdpose"):
        raise ValueError(f"protocol must be 'coco' or 'crowdpose', got '{protocol}'")
    if crowd_cuts[0] > crowd_cuts[1]:
        raise ValueError(f"crowd_cuts must be (easy below, medium below), got {crowd_cuts}")
    if not path.is_file():
        raise FileNotFoundError(f"no annotations at {path} to evaluate against")
    return dict(json.loads(path.read_bytes()))


def ground_truth(
    data: Mapping[str, Any], path: Path, protocol: str, joints: int
) -> list[dict[str, Any]]:
    """The file's persons with all that the evaluator needs, numbered from 1.

    The evaluator marks "unmatched" by 0, so a person of id 0 would be lost.
    """
    persons = [a for a in data.get("annotations") or () if a.get("keypoints")]
    without_area = 0
    truth = []
    for number, person in enumerate(persons, start=1):
        keypoints = person["keypoints"]
        if len(keypoints) != 3 * joints:
            raise ValueError(
                f"{path}: person {person.get('id', number)} has {len(keypoints) / 3:g} joints, "
                f"must be {joints} as there are sigmas"
            )
        if "bbox" not in person:
            raise ValueError(f"{path}: person {person.get('id', number)} must have a 'bbox'")
        area = person.get("area") if protocol == "coco" else None
        without_area += area is None
        _, _, width, height = person["bbox"]
        labelled = sum(v > 0 for v in keypoints[2::3])
        truth.append(
            {
                "id": number,
                "image_id": int(person["image_id"]),
                "category_id": 1,
                "keypoints": keypoints,
                "num_keypoints": person.get("num_keypoints", labelled),
                "iscrowd": int(person.get("iscrowd", 0)),
                "bbox": person["bbox"],
                "area": width * height * BOX_TO_BODY if area is None else area,
            }
        )
    if protocol == "coco" and without_area:
        _log.warning(
            "%s: %d of %d persons have no 'area'; %g of the box is taken, so the figures do not "
            "compare with COCO's",
            path, without_area, len(truth), BOX_TO_BODY,
        )  # fmt: skip
    return truth


def read_detections(
    results: Sequence[Mapping[str, Any]], images: Mapping[int, Any], path: Path, joints: int
) -> list[dict[str, Any]]:
    """The results as persons, checked; the caller's own dicts stay untouched."""
    for index, result in enumerate(results):
        lacking = [k for k in ("image_id", "keypoints", "score") if k not in result]
        if lacking:
            raise ValueError(f"result {index} lacks {lacking}: it has {sorted(result)[:8]}")
    named = [int(result["image_id"]) for result in results]
    _check_known("results", named, images, path)
    boxed = has_boxes(results)
    found = []
    for index, result in enumerate(results):
        keypoints, score = result["keypoints"], result["score"]
        if len(keypoints) != 3 * joints:
            raise ValueError(
                f"result {index} must have {3 * joints} keypoint numbers (x, y, score for each of "
                f"{joints} sigmas), got {len(keypoints)}"
            )
        # An OKS that is not a number passes every threshold: it would count as a perfect match.
        # A sum is finite where all its parts are, but for some beyond all pixels: seen to apart.
        if not (isfinite(sum(keypoints) + score) or np.isfinite([*keypoints, score]).all()):
            raise ValueError(
                f"result {index} (image {named[index]}) must have finite keypoints and score, "
                "got nan or inf"
            )
        person = {"image_id": named[index], "category_id": 1, "keypoints": keypoints}
        person["score"] = score
        if boxed:
            if not result.get("bbox"):
                raise ValueError(f"result {index} must have a 'bbox' as the first result has")
            person["bbox"] = result["bbox"]
        found.append(person)
    return found


def has_boxes(results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether COCO's evaluator takes the results' areas from their boxes: the first one decides."""
    return bool(results) and bool(results[0].get("bbox"))


def _check_known(what: str, named: Sequence[int], images: Mapping[int, Any], path: Path) -> None:
    unknown = [image for image in named if image not in images]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(named)} {what} name images that are not in {path}, "
            f"e.g. id {unknown[0]}"
        )


def crowd_subsets(
    images: Sequence[Mapping[str, Any]], cuts: tuple[float, float]
) -> dict[str, set[int]]:
    """Image ids by ``crowdIndex``."""
    names = ("easy", "medium", "hard")
    subsets: dict[str, set[int]] = {name: set() for name in names}
    for image in images:
        if "crowdIndex" in image:
            index = float(image["crowdIndex"])
            name = names[int(np.searchsorted(cuts, index, side="right"))]
            subsets[name].add(int(image["id"]))
    return subsets


def precision_recall(
    truth: Sequence[Mapping[str, Any]],
    found: Sequence[Mapping[str, Any]],
    images: set[int],
    sigmas: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Precision ``(10 OKS, 101 recalls, 3 sizes)`` and recall ``(10, 3)``; -1: nothing to find."""
    # The evaluator annotates the dicts it is given, hence the copies.
    persons = [dict(person) for person in truth if person["image_id"] in images]
    if not any(person["num_keypoints"] and not person["iscrowd"] for person in persons):
        return np.full((10, 101, 3), -1.0), np.full((10, 3), -1.0)
    reference = COCO(
        {
            "images": [{"id": image} for image in sorted(images)],
            "annotations": persons,
            "categories": [{"id": 1, "name": "person"}],
        }
    )
    chosen = [result for result in found if result["image_id"] in images]
    candidates = COCO({**reference.dataset, "annotations": _numbered(chosen)})
    evaluator = COCOeval_faster(reference, candidates, "keypoints", kpt_oks_sigmas=list(sigmas))
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    return precision[:, :, 0, :, 0], recall[:, 0, :, 0]


def _numbered(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies with ids, areas and boxes: what the evaluator's loader adds, but for all at once.

    It takes a third of the whole evaluation's time to do it result by result.
    """
    if not found:
        return []
    if has_boxes(found):
        boxes = np.array([result["bbox"] for result in found], dtype=float)
    else:
        points = np.array([result["keypoints"] for result in found], dtype=float)
        points = points.reshape(len(found), -1, 3)[..., :2]
        low, high = points.min(axis=1), points.max(axis=1)
        boxes = np.hstack([low, high - low])
    areas = (boxes[:, 2] * boxes[:, 3]).tolist()
    return [
        {**result, "id": number, "iscrowd": 0, "area": area, "bbox": box}
        for number, (result, area, box) in enumerate(
            zip(found, areas, boxes.tolist(), strict=True), start=1
        )
    ]


def mean_defined(values: np.ndarray) -> float | None:
    """Mean of what is defined, None if nothing is."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None
