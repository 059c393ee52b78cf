"""``what=eval``: the time that AP takes, against pycocotools on the same files."""

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO as Annotations
from pycocotools.cocoeval import COCOeval

from kdpose.evaluation.timing import Case
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton

Figures = Mapping[str, float | None]


def cases(
    images: int, persons: int, labelled: int, detections: int, crowd: bool, scratch: Path
) -> list[Case]:
    """Ours and pycocotools', from the annotation file and a list of results to the figures.

    Persons are points thrown into boxes and results are persons displaced, at random; every run
    compares its figures with those of the run before.  CrowdPose's own evaluator is pycocotools
    with other constants, run four times: for all images and for those of each crowd index.

    Args:
        images: of the file.
        persons: annotations; most images have some, as val2017's.
        labelled: of these, how many have labelled joints.
        detections: results.
        crowd: evaluate as CrowdPose as well.
        scratch: folder for the files.
    """
    rows: list[Case] = []
    for protocol, skeleton in [("coco", COCO), ("crowdpose", CROWDPOSE)][: 1 + crowd]:
        rng = np.random.default_rng(0)
        content, results = synthetic(rng, skeleton, images, persons, labelled, detections)
        path = scratch / f"{protocol}.json"
        path.write_text(json.dumps(content))
        measured = {
            "pycocotools": _reference(protocol, path, skeleton, results),
            "kdpose": _ours(protocol, path, skeleton, results),
        }
        told: dict[str, Figures] = {}
        for name, run in measured.items():
            reference = None if name == "pycocotools" else f"{protocol}: pycocotools"
            compared = _compared(name, run, told)
            rows.append(Case(f"{protocol}: {name}", compared, reference))
    return rows


def synthetic(
    rng: np.random.Generator,
    skeleton: Skeleton,
    images: int,
    persons: int,
    labelled: int,
    detections: int,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An annotation file's content, with ``crowdIndex``, and results for it."""
    joints = len(skeleton)
    owners = rng.integers(1, max(2, int(images * 0.54)), persons)
    boxes = np.hstack([rng.uniform(0, 300, (persons, 2)), rng.lognormal(4.4, 0.8, (persons, 2))])
    places = boxes[:, None, :2] + rng.random((persons, joints, 2)) * boxes[:, None, 2:]
    visible = rng.integers(0, 3, (persons, joints)) * (rng.permutation(persons) < labelled)[:, None]
    keypoints = np.dstack([places * (visible > 0)[..., None], visible]).round(2)
    indices = rng.random(images).tolist()
    content = {
        "images": [{"id": n + 1, "crowdIndex": indices[n]} for n in range(images)],
        "annotations": _persons(owners, boxes, visible, keypoints),
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.joints)}],
    }
    seen = rng.integers(0, persons, detections)
    spread = 0.2 * rng.random(detections) * np.sqrt(boxes[seen, 2:].prod(1))
    found = places[seen] + rng.normal(0, 1, (detections, joints, 2)) * spread[:, None, None]
    triplets = np.dstack([found, rng.random((detections, joints))]).round(3)
    scores = rng.random(detections).tolist()
    results = [
        {"image_id": int(owners[n]), "category_id": 1, "keypoints": t, "score": s}
        for n, t, s in zip(seen, triplets.reshape(detections, -1).tolist(), scores, strict=True)
    ]
    return content, results


def _persons(
    owners: NDArray[np.int64],
    boxes: NDArray[np.float64],
    visible: NDArray[np.int64],
    keypoints: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Annotations; of the persons without any joint, some are crowds."""
    return [
        {
            "id": n + 1,
            "image_id": int(owners[n]),
            "category_id": 1,
            "iscrowd": int(not visible[n].any() and n % 25 == 0),
            "bbox": boxes[n].round(2).tolist(),
            "area": float(boxes[n, 2] * boxes[n, 3] * 0.6),
            "num_keypoints": int((visible[n] > 0).sum()),
            "keypoints": keypoints[n].ravel().tolist(),
        }
        for n in range(len(owners))
    ]


Evaluation = Callable[[], tuple[Figures, int]]


def _compared(name: str, run: Evaluation, told: dict[str, Figures]) -> Callable[[], float]:
    def compared() -> float:
        told[name], detections = run()
        reference = told["pycocotools"]
        both = [(value, reference[key]) for key, value in told[name].items()]
        # equal except for the order of summation
        if any(a is None or b is None or abs(a - b) > 1e-12 for a, b in both):
            raise RuntimeError(f"{name} gave {told[name]}, pycocotools gave {reference}")
        return detections

    return compared


def _ours(
    protocol: Any,
    path: Path,
    skeleton: Skeleton,
    results: Sequence[Mapping[str, Any]],
) -> Evaluation:
    def run() -> tuple[Figures, int]:
        figures = keypoint_ap(path, results, protocol=protocol, sigmas=skeleton.sigmas)
        return figures, len(results)

    return run


def _reference(
    protocol: str, path: Path, skeleton: Skeleton, results: Sequence[Mapping[str, Any]]
) -> Evaluation:
    def run() -> tuple[Figures, int]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = Annotations(str(path))
            if protocol == "crowdpose":
                for person in truth.dataset["annotations"]:
                    person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]
            found = truth.loadRes([dict(result) for result in results])
            stats = _stats(truth, found, skeleton, None)
            figures = {"AP": stats[0], "AP50": stats[1], "AP75": stats[2], "AR": stats[5]}
            if protocol == "coco":
                return figures | {"APM": stats[3], "APL": stats[4]}, len(results)
            index = {image["id"]: image["crowdIndex"] for image in truth.dataset["images"]}
            for name, low, high in (("easy", -1, 0.2), ("medium", 0.2, 0.8), ("hard", 0.8, 9)):
                subset = [image for image, value in index.items() if low <= value < high]
                value = _stats(truth, found, skeleton, subset)[0]
                figures[f"AP_{name}"] = round(value, 4)
        return figures, len(results)

    return run


def _stats(
    truth: Annotations, found: Annotations, skeleton: Skeleton, images: list[int] | None
) -> list[float]:
    evaluator = COCOeval(truth, found, "keypoints")
    evaluator.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
    if images is not None:
        evaluator.params.imgIds = images
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return [float(value) for value in evaluator.stats]
