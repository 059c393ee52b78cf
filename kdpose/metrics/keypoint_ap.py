"""Keypoint AP by the protocols of COCO and CrowdPose.

Persons of several categories are scored apart and the figures averaged, as in pycocotools; a
category without persons does not enter. Persons with
``iscrowd`` or a ``num_keypoints`` of 0 *in the file* are ignored by both protocols (CrowdPose
counts joints 0-11 there, so a labelled head alone does not make a person count). OKS uses the
file's ``area`` under ``coco`` and 0.53 w h of the box under ``crowdpose``.

As in COCO's own evaluator, where the first result has a ``bbox`` the boxes take the place of the
keypoints' extents as the detections' areas, which moves ``APM`` and ``APL``; otherwise all boxes
are passed over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from kdpose.metrics.matches import average_precision, precision_recall
from kdpose.metrics.matching import ALL, LARGE, MEDIUM, Matches, match_persons
from kdpose.metrics.people import check_known, ground_truth, read_detections
from kdpose.runtime.annotation_file import AnnotationFile, Annotations
from kdpose.runtime.categories import category_id, classes


def keypoint_ap(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    *,
    protocol: Literal["coco", "crowdpose"],
    sigmas: Sequence[float],
    image_ids: Sequence[int] | None = None,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
) -> dict[str, float | None]:
    """Average precision and recall of poses against a COCO-style annotation file.

    Args:
        annotations: the annotation file, or one that is parsed already.
        results: COCO's, with ``image_id``, ``keypoints`` (x, y, score; image pixels), ``score``.
        protocol: ``coco`` adds AP by size, ``crowdpose`` AP by the images' ``crowdIndex``.
        sigmas: K OKS constants.
        image_ids: evaluate on these images alone; None for all of the file's.
        crowd_cuts: an image is easy below the first ``crowdIndex`` and medium below the second;
            one without the field is none of the three. The defaults are published figures'.

    Returns:
        The mean over the categories, see :func:`category_ap`, which are one in most files:
        ``AP AP50 AP75 AR`` and ``APM APL`` or ``AP_easy AP_medium AP_hard``, as fractions; the last
        three are rounded to four decimals, as CrowdPose's evaluator does. None where no person of
        that kind is to be found, so that nothing could be measured.

    Raises:
        FileNotFoundError: the annotation file is not there.
        ValueError: the protocol is unknown, a result is not finite, or the arguments do not fit.
    """
    rules: Any = {"sigmas": sigmas, "image_ids": image_ids, "crowd_cuts": crowd_cuts}
    return mean_figures(category_ap(annotations, results, protocol=protocol, **rules))


def category_ap(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    *,
    protocol: Literal["coco", "crowdpose"],
    sigmas: Sequence[float],
    image_ids: Sequence[int] | None = None,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
) -> dict[str, dict[str, float | None]]:
    """The figures of each category by its name; where all persons are of one, there is one entry.

    Args:
        annotations: see :func:`keypoint_ap`.
        results: see there; of several categories, with the ``category_id`` of one of them.
        protocol: see there.
        sigmas: see there.
        image_ids: see there.
        crowd_cuts: see there.

    Raises:
        FileNotFoundError: see :func:`keypoint_ap`.
        ValueError: see there; or a result's category is unknown where there are several.
    """
    _check_rules(protocol, crowd_cuts)
    file = AnnotationFile.of(annotations, pictured=False)
    images = {int(image["id"]): image for image in file.content["images"]}
    chosen = np.unique(np.fromiter(images if image_ids is None else map(int, image_ids), np.int64))
    check_known("image_ids", chosen, images, file.path)
    figures = {}
    for name, (part, found) in _by_category(file, results).items():
        every, *sized = _matched(part, found, images, chosen.tolist(), sigmas, protocol)
        figures[name] = _figures(every) | (
            {n: average_precision(m) for n, m in zip(("APM", "APL"), sized, strict=True)}
            if protocol == "coco"
            else _by_crowding(every, [images[i] for i in chosen.tolist()], crowd_cuts)
        )
    return figures


def mean_figures(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean over categories of each figure, of those that could be measured."""
    first, *more = figures.values()
    if not more:
        return dict(first)
    columns = {name: [f[name] for f in figures.values()] for name in first}
    known = {name: [v for v in column if v is not None] for name, column in columns.items()}
    return {name: float(np.mean(v)) if v else None for name, v in known.items()}


_Part = tuple[AnnotationFile, Sequence[Mapping[str, Any]]]


def _by_category(file: AnnotationFile, results: Sequence[Mapping[str, Any]]) -> dict[str, _Part]:
    """The persons and results of each category that has persons, by name."""
    kinds = classes(file.content)
    if len(kinds) < 2:
        return {next(iter(kinds.values()), ""): (file, results)}
    unknown = [r for r in results if category_id(r) not in kinds]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(results)} results have a category_id that is none of "
            f"{file.path}'s, the first {unknown[0].get('category_id')}; it has {kinds}"
        )
    found: dict[Any, list[Mapping[str, Any]]] = {kind: [] for kind in kinds}
    for result in results:
        found[category_id(result)].append(result)
    persons: dict[Any, list[Any]] = {kind: [] for kind in kinds}
    for person in file.content["annotations"]:
        if category_id(person) in persons:
            persons[category_id(person)].append(person)
    return {
        name: (replace(file, content={**file.content, "annotations": persons[kind]}), found[kind])
        for kind, name in kinds.items()
    }


def _matched(
    file: AnnotationFile,
    results: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    chosen: Sequence[int],
    sigmas: Sequence[float],
    protocol: Literal["coco", "crowdpose"],
) -> list[Matches]:
    """Matches of persons of any size; under ``coco`` also of medium and of large ones."""
    truth = ground_truth(file.content, file.path, protocol, len(sigmas))
    found = read_detections(results, images, file.path, len(sigmas))
    areas = (ALL, MEDIUM, LARGE) if protocol == "coco" else (ALL,)
    return match_persons(truth, found, chosen, sigmas, areas)


def _by_crowding(
    matches: Matches, images: Sequence[Mapping[str, Any]], cuts: tuple[float, float]
) -> dict[str, float | None]:
    """AP of the images of each class of crowding, which come in the matches' order."""
    ids, figures = [int(image["id"]) for image in images], {}
    for name, subset in crowd_subsets(images, cuts).items():
        value = average_precision(matches, np.isin(ids, list(subset)).astype(np.int64))
        figures[f"AP_{name}"] = None if value is None else round(value, 4)
    return figures


def _figures(matches: Matches) -> dict[str, float | None]:
    curves = precision_recall(matches)
    if curves is None:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"))
    precision, recall = curves
    values = precision, precision[0], precision[5], recall
    return {n: float(v.mean()) for n, v in zip(("AP", "AP50", "AP75", "AR"), values, strict=True)}


def _check_rules(protocol: str, crowd_cuts: tuple[float, float]) -> None:
    """Refuse rules that make no sense before anything is read."""
    if protocol not in ("coco", "crowdpose"):
        raise ValueError(f"protocol must be 'coco' or 'crowdpose', got '{protocol}'")
    if crowd_cuts[0] > crowd_cuts[1]:
        raise ValueError(f"crowd_cuts must be (easy below, medium below), got {crowd_cuts}")


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
