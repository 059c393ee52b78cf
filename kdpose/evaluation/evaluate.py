"""Score a checkpoint on a COCO-format file."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from rich.progress import track
from torch.utils.data import DataLoader

from kdpose.checkpoints.guest_net import GuestNet, LoadedGuest, open_guest
from kdpose.checkpoints.load import Loaded, chosen, load_net
from kdpose.cli import console
from kdpose.data.annotations import Persons, concatenate, load_persons
from kdpose.data.dataset import PoseDataset, check_images, collate
from kdpose.data.detections import box_sources, load_detections
from kdpose.data.taught import StoredTeacher
from kdpose.data.transforms import PADDING
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.score import score_file, score_shared
from kdpose.metrics.pose_results import PoseResults, Predictions, to_results
from kdpose.metrics.submission import write_submission
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.annotation_file import AnnotationFile
from kdpose.runtime.devices import pick_device
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.files import named_skeleton
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.skeletons.skeleton import Skeleton, joint_key

_NMS = 0.9  # largest OKS of two persons that may both stay


@torch.inference_mode()
def predict_poses(
    net: PoseNet | RefinedPoseNet | GuestNet,
    dataset: PoseDataset,
    *,
    flip: bool,
    batch_size: int = 64,
    num_workers: int = 2,
    device: str = "auto",
) -> Predictions:
    """Poses of all of a data set's persons, found by this process, with a progress bar."""
    where = pick_device(device)
    net = net.to(where).eval()
    results = PoseResults(dataset.input_size, alone=True)
    loader = DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate)
    for batch in track(loader, "evaluating", console=console, transient=True):
        pose = net.pose(batch.image.to(where), flip)
        results.update(
            batch.image_id,
            batch.person,
            pose.joints.cpu(),
            pose.scores.cpu(),
            batch.box_score,
            batch.center,
            batch.size,
        )
    return results.compute()


def evaluate_net(
    loaded: Loaded | LoadedGuest,
    *,
    annotations: str | None = None,
    images: str | None = None,
    protocol: str | None = None,
    boxes: str | Sequence[str] = "gt",
    flip: bool = True,
    crowd_cuts: tuple[float, float] = (0.2, 0.8),
    results_out: Path | None = None,
    **options: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Score a network on a COCO-format file; by default on its own validation split.

    Args:
        loaded: from :func:`load_net`, or of another project.
        annotations: annotation file.
        images: folder of its images; with ``annotations`` alone, the checkpoint's own.
        protocol: ``coco`` or ``crowdpose``.
        boxes: see :func:`box_sources`; all are predicted in one pass.
        flip: average with the mirrored crop.
        crowd_cuts: see :func:`keypoint_ap`.
        results_out: where the poses of the first box source are written: ``.json`` as COCO results,
            ``.zip`` as a submission to COCO's server.
        **options: ``batch_size``, ``num_workers``, ``device`` of :func:`predict_poses`.

    Returns:
        The record of :func:`score` and what else it depends on. With several box sources it is the
        first one's, and ``sources`` has the record of each by name.

    Raises:
        FileNotFoundError: a file or an image is not there.
        ValueError: the files do not fit, or nobody is labelled and no results are wanted.
    """
    own = loaded.description["dataset"]
    path, folder = _data(own, annotations, images)
    truth = AnnotationFile.read(path)
    if results_out is None and not truth.counts()[1]:
        raise ValueError(f"{path} has no labelled persons to score: set submission=FILE.zip")
    named, bridge = box_sources(boxes, truth), _bridge(loaded.net, truth)
    persons = {name: _persons(source, truth, bridge.student) for name, source in named.items()}
    found = _results(loaded, persons, folder, bridge.student, flip, **options)
    if results_out is not None:
        _write_results(results_out, next(iter(found.values())), path, loaded)
    rules: dict[str, Any] = {
        "protocol": protocol or own.get("protocol", "coco"),
        "crowd_cuts": crowd_cuts,
    }
    cost = {} if isinstance(loaded.net, GuestNet) else complexity(loaded.net)
    records = {
        name: score_shared(truth, found[name], bridge, **rules)
        | _circumstances(loaded, source, len(persons[name]), flip)
        | cost
        for name, source in named.items()
    }
    first = next(iter(records.values()))
    return first if len(records) == 1 else {**first, "sources": records}


def _bridge(
    net: PoseNet | RefinedPoseNet | GuestNet, annotations: AnnotationFile
) -> SkeletonBridge:
    """From the annotations' joints to the network's: by name where they differ.

    A checkpoint keeps its own skeleton, and so its sigmas, where the joints are the same; a guest,
    which has none, takes that of the annotations.
    """
    own = net.skeleton
    with suppress(ValueError):  # no category names joints: they are the network's
        annotated = named_skeleton(annotations)
        same = [*map(joint_key, annotated.joints)] == [*map(joint_key, own.joints)]
        own = own if same and not isinstance(net, GuestNet) else annotated
    return SkeletonBridge.between(own, net.skeleton)


def _data(own: Mapping[str, Any], annotations: str | None, images: str | None) -> tuple[Path, Path]:
    """The annotation file and the folder of images to score on."""
    if not own and not (annotations and images):
        raise ValueError("weights of another project know no data: set annotations=JSON images=DIR")
    return Path(annotations or own["annotations"]).absolute(), Path(
        images or own["images"]
    ).absolute()


def _results(
    loaded: Loaded | LoadedGuest,
    persons: Mapping[str, Persons],
    images: Path,
    annotated: Skeleton,
    flip: bool,
    **options: Any,  # noqa: ANN401
) -> dict[str, list[dict[str, Any]]]:
    """COCO results of each list of persons; the network sees all of them in one pass."""
    everybody = concatenate(*persons.values())
    check_images(everybody, images, "images")
    size = loaded.net.codec.input_size
    padding = loaded.net.padding if isinstance(loaded.net, GuestNet) else PADDING
    dataset = PoseDataset(everybody, images, annotated, size, padding=padding)
    poses = predict_poses(loaded.net, dataset, flip=flip, **options)
    results, start = {}, 0
    for name, part in persons.items():
        rows = poses[start : start + len(part)]
        results[name] = to_results(
            rows, loaded.net.skeleton.sigmas, threshold=loaded.net.codec.score_threshold, nms=_NMS
        )
        start += len(part)
    return results


def _persons(source: str, annotations: AnnotationFile, skeleton: Skeleton) -> Persons:
    if source == "gt":
        return load_persons(annotations, skeleton, "annotations")
    return load_detections(source, annotations, skeleton)


def _circumstances(
    loaded: Loaded | LoadedGuest, source: str, boxes: int, flip: bool
) -> dict[str, Any]:
    """What the poses depend on beside the network's weights."""
    detected = source != "gt"
    return {
        "box_source": str(Path(source).absolute()) if detected else "gt",
        "boxes_sha256": sha256(source) if detected else None,
        "boxes": boxes,
        "flip": flip,
        "flip_shift_bins": loaded.net.codec.flip_shift if flip else None,
        "score_threshold": loaded.net.codec.score_threshold,
        "oks_nms": _NMS,
        "input_size": list(loaded.net.codec.input_size),
    }


def _write_results(
    out: Path, results: Sequence[dict[str, Any]], annotations: Path, loaded: Loaded | LoadedGuest
) -> None:
    if out.suffix == ".zip":
        algorithm = str(loaded.description.get("experiment") or "kdpose")
        write_submission(out, results, annotations.stem, algorithm)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results))


def evaluate_ckpt(cfg: DictConfig) -> dict[str, Any]:
    """Score the checkpoint that ``conf/evaluate.yaml``'s keys name, or the network of a teacher."""
    loaded: Loaded | LoadedGuest
    if cfg.get("teacher") is None:
        ckpt = chosen(cfg.ckpt)
        foreign = {"skeleton": cfg.skeleton, "input_size": cfg.input_size, "label": cfg.label}
        loaded, source = load_net(ckpt, **foreign), str(ckpt.absolute())
        name = ckpt.absolute().parent.name
    else:
        loaded = open_guest(cfg.teacher)
        source, name = loaded.net.where, loaded.net.name
    metrics = evaluate_net(
        loaded,
        annotations=cfg.annotations,
        images=cfg.images,
        protocol=cfg.protocol,
        boxes=cfg.boxes if isinstance(cfg.boxes, str) else [str(b) for b in cfg.boxes],
        flip=cfg.flip,
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
        device=cfg.device,
        crowd_cuts=tuple(cfg.crowd_cuts),
        results_out=Path(cfg.submission) if cfg.submission else None,
    )
    return metrics | {"ckpt": source, "model": name}


def evaluate_stored(cfg: DictConfig) -> dict[str, Any]:
    """Score the stored poses of ``teacher=poses``, as the file has them.

    Raises:
        ValueError: ``annotations`` is not given, or the teacher has several files.
    """
    stored: StoredTeacher = instantiate(cfg.teacher, _convert_="all")
    if not cfg.annotations or len(stored.files) > 1:
        raise ValueError("teacher=poses needs annotations=A.json and one file of results to score")
    return score_file(
        stored.files[0],
        cfg.annotations,
        protocol=cfg.protocol or "coco",
        skeleton=cfg.skeleton,
        taught=stored.skeleton,
        crowd_cuts=tuple(cfg.crowd_cuts),
    )


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Score what ``conf/evaluate.yaml``'s keys name: results, a teacher or a checkpoint.

    Returns:
        Of :func:`score`, and ``model``, the name of what was scored.
    """
    if cfg.predictions:
        return evaluate_file(cfg) | {"model": Path(cfg.predictions).stem}
    teacher = cfg.get("teacher")
    if teacher is not None and get_object(teacher._target_) is StoredTeacher:
        record = evaluate_stored(cfg)
        return record | {"model": Path(record["predictions"]).stem}
    return evaluate_ckpt(cfg)


def evaluate_file(cfg: DictConfig) -> dict[str, Any]:
    """Score the COCO results of ``predictions``.

    Raises:
        ValueError: ``annotations`` or ``protocol`` is not given.
    """
    lacking = [f"{key}=" for key in ("annotations", "protocol") if not cfg[key]]
    if lacking:
        raise ValueError(f"predictions={cfg.predictions} needs {' and '.join(lacking)}")
    return score_file(
        cfg.predictions,
        cfg.annotations,
        protocol=cfg.protocol,
        skeleton=cfg.skeleton,
        crowd_cuts=tuple(cfg.crowd_cuts),
    )
