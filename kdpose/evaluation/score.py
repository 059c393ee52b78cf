"""An AP with all that it depends on, for poses of a network or of any file of COCO results."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdpose.data.results import read_poses
from kdpose.metrics.keypoint_ap import category_ap, keypoint_ap, mean_figures
from kdpose.metrics.matching import MAX_DETECTIONS
from kdpose.metrics.people import has_boxes
from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.runtime.categories import category_id, category_joints, classes
from kdpose.runtime.provenance import code_version, sha256
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.sides import joint_key
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)


def score(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    *,
    protocol: str,
    skeleton: Skeleton,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
) -> dict[str, Any]:
    """AP of results, and what makes the figure comparable.

    Args:
        annotations: annotation file; without persons, as test-dev's, every figure is None.
        results: COCO keypoint results.
        protocol: ``coco`` or ``crowdpose``.
        skeleton: of the annotations; gives the sigmas.
        crowd_cuts: see :func:`keypoint_ap`.

    Returns:
        The figures of :func:`keypoint_ap`, and: ``protocol``, ``split``, ``annotations`` and their
        ``annotations_sha256``, ``images`` and ``persons`` (those that count), ``results``,
        ``skeleton``, ``sigmas``, ``sigma_source``, ``max_detections``, ``crowd_cuts`` (None except
        for crowds), ``areas`` (the source of the results' areas), and :func:`code_version`. If the
        sigmas are defaults, also ``AP_half_sigma`` and ``AP_double_sigma``, AP at half and double;
        where there are several categories, whose mean the figures are, ``categories``: each AP.
    """
    file = AnnotationFile.of(annotations, pictured=False)
    figures = _figures(file, results, skeleton, protocol=protocol, crowd_cuts=crowd_cuts)
    return {
        **figures,
        "protocol": protocol,
        **_split(file),
        "results": len(results),
        "skeleton": skeleton.name,
        "sigmas": list(skeleton.sigmas),
        "sigma_source": skeleton.sigma_source,
        "max_detections": MAX_DETECTIONS,
        "crowd_cuts": list(crowd_cuts) if protocol == "crowdpose" else None,
        "areas": "bbox" if has_boxes(results) else "keypoints",
        **code_version(),
    }


def _split(file: AnnotationFile) -> dict[str, Any]:
    """Which persons an AP is of."""
    images, persons = file.counts()
    return {
        "split": file.path.stem,
        "annotations": str(file.path),
        "annotations_sha256": file.sha256,
        "images": images,
        "persons": persons,
    }


def _figures(
    file: AnnotationFile,
    results: Sequence[Mapping[str, Any]],
    skeleton: Skeleton,
    **rules: Any,
) -> dict[str, Any]:
    """AP and AR; if the sigmas are defaults, also AP at half and double of them."""
    apart = category_ap(file, results, sigmas=skeleton.sigmas, **rules)
    figures: dict[str, Any] = mean_figures(apart)
    if len(apart) > 1:
        figures["categories"] = {name: values["AP"] for name, values in apart.items()}
    if skeleton.sigma_source != "given":
        for name, factor in (("AP_half_sigma", 0.5), ("AP_double_sigma", 2.0)):
            sigmas = [factor * sigma for sigma in skeleton.sigmas]
            figures[name] = keypoint_ap(file, results, sigmas=sigmas, **rules)["AP"]
    return figures


def score_shared(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    bridge: SkeletonBridge,
    **rules: Any,
) -> dict[str, Any]:
    """AP of results of another skeleton, on the joints that the annotations have as well.

    Args:
        annotations: annotation file, of ``bridge.student``.
        results: COCO keypoint results, of ``bridge.teacher``.
        bridge: the joints that both have.
        rules: ``protocol`` and ``crowd_cuts`` of :func:`score`.

    Returns:
        The record of :func:`score`; where the skeletons differ, also ``shared_joints``, by name.
    """
    file = AnnotationFile.of(annotations, pictured=False)
    if bridge.student.joints == bridge.teacher.joints:
        return score(file, results, skeleton=bridge.student, **rules)
    known = [{**r, "keypoints": only(r["keypoints"], bridge.teacher_joints)} for r in results]
    record = score(reduced(file, bridge.student_joints), known, skeleton=bridge.shared, **rules)
    return record | {"shared_joints": list(bridge.shared.joints)}


def reduced(annotations: AnnotationFile, joints: Sequence[int]) -> AnnotationFile:
    """The annotations with some joints alone; who was to be ignored still is."""
    persons = []
    for person in annotations.content["annotations"]:
        if person.get("keypoints"):
            keypoints = only(person["keypoints"], joints)
            labelled = sum(v > 0 for v in keypoints[2::3])
            number = min(labelled, person.get("num_keypoints", labelled))
            persons.append({**person, "keypoints": keypoints, "num_keypoints": number})
        else:
            persons.append(person)
    return replace(annotations, content={**annotations.content, "annotations": persons})


def only(keypoints: Sequence[float], joints: Sequence[int]) -> list[float]:
    """The triplets (x, y, v) of some joints."""
    return [value for k in joints for value in keypoints[3 * k : 3 * k + 3]]


def score_file(
    predictions: str | Path,
    annotations: Annotations,
    *,
    protocol: str,
    skeleton: str | None = None,
    taught: Skeleton | None = None,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
) -> dict[str, Any]:
    """Score a file of COCO keypoint results, whoever made it.

    Args:
        predictions: JSON list of ``{image_id, category_id, keypoints, score}``. As pycocotools
            does, areas are taken from the results' own ``bbox`` where the first has one, with a
            warning: it moves APM and APL away from published figures, which have none.
        annotations: annotation file.
        protocol: ``coco`` or ``crowdpose``.
        skeleton: of the results: ``coco``, ``crowdpose``, a YAML or a JSON whose category names
            the joints; None is the annotations' own. Joints are matched by name.
        taught: the results' skeleton, where it is another: they are scored on the joints of both.
        crowd_cuts: see :func:`keypoint_ap`.

    Returns:
        :func:`score`'s record and the file's path and hash; boxes and flip test are None, since a
        file does not tell them.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: a file is of another kind, or they do not fit one another.
    """
    path, truth = Path(predictions), AnnotationFile.of(annotations, pictured=False)
    known, found = _skeletons(truth, skeleton)
    results = read_results(path, truth)
    _warn(path, results, protocol)
    bridge = SkeletonBridge.between(known, taught or found)
    record = score_shared(truth, results, bridge, protocol=protocol, crowd_cuts=crowd_cuts)
    source = {"predictions": str(path.absolute()), "predictions_sha256": sha256(path)}
    unknown = ("box_source", "boxes_sha256", "flip", "flip_shift_bins")
    return record | source | dict.fromkeys(unknown)


def _skeletons(truth: AnnotationFile, given: str | None) -> tuple[Skeleton, Skeleton]:
    """The annotations' skeleton and the results'; annotations without joint names have the same."""
    if given is None:
        own = named_skeleton(truth)
        return own, own
    found = named_skeleton(given)
    if not any(map(category_joints, truth.content.get("categories") or ())):
        return found, found
    own = named_skeleton(truth)
    same = [*map(joint_key, own.joints)] == [*map(joint_key, found.joints)]
    return (found if same else own), found


def _warn(path: Path, results: Sequence[Mapping[str, Any]], protocol: str) -> None:
    """Warn of figures that mean less than they seem to."""
    if not results:
        _log.warning("%s holds no predictions: nothing was found, AP is 0", path.absolute())
    if has_boxes(results) and protocol == "coco":
        _log.warning(
            "%s has boxes, which COCO's evaluator takes the areas from: APM and APL do not compare "
            "with those of results without 'bbox'",
            path.absolute(),
        )


def read_results(path: Path, annotations: AnnotationFile) -> list[dict[str, Any]]:
    """The results of the annotations' categories; those of others are left out, as in COCO.

    Where the annotations have one category and the results another one, they are the same.
    """
    where = f"{path.absolute()} (from predictions)"
    results = read_poses(path, "predictions")
    kinds = classes(annotations.content)
    wanted = set(kinds) or {1}
    single = len(wanted) == 1
    kept = [r for r in results if category_id(r) in wanted or (single and category_id(r) is None)]
    if len(kept) == len(results):
        return results
    found = Counter(str(r.get("category_id")) for r in results)
    if single and len(found) == 1:
        other, own = next(iter(found)), next(iter(wanted))
        _log.warning("%s: category_id %s is taken for the annotations' %s", where, other, own)
        return results
    seen = ", ".join(f"{kind} ({count} times)" for kind, count in found.most_common(5))
    if not kept:
        raise ValueError(
            f"0 of {len(results)} results of {where} are persons: category_id must be one of "
            f"{sorted(wanted, key=str)}, it has {seen}"
        )
    count = len(results) - len(kept)
    _log.warning("%s: %d results are left out: category_id is %s", where, count, seen)
    return kept
