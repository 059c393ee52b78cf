"""What ``kdpose evaluate`` scores: a checkpoint, a teacher, stored poses or a file of results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from kdpose.checkpoints.guest_net import LoadedGuest, open_guest
from kdpose.checkpoints.load import Loaded, chosen, load_net
from kdpose.data.taught import StoredTeacher
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.evaluation.score import score_file
from kdpose.runtime.annotation_file import AnnotationFile, Annotations


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
        annotations=_annotations(cfg, loaded.description["dataset"]),
        skeleton=cfg.skeleton,
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


def _annotations(cfg: DictConfig, own: Mapping[str, Any]) -> Annotations | None:
    """The file to score on, None for the network's own; of it, the category asked for."""
    path = cfg.annotations or own.get("annotations")
    if cfg.category is None or path is None:
        return cfg.annotations
    folder = cfg.images or own.get("images")
    return AnnotationFile.read(path, images=folder, category=cfg.category)


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
        AnnotationFile.read(cfg.annotations, category=cfg.category, pictured=False),
        protocol=cfg.protocol or "coco",
        skeleton=cfg.skeleton,
        taught=stored.skeleton,
        crowd_cuts=tuple(cfg.crowd_cuts),
    )


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
        AnnotationFile.read(cfg.annotations, category=cfg.category, pictured=False),
        protocol=cfg.protocol,
        skeleton=cfg.skeleton,
        crowd_cuts=tuple(cfg.crowd_cuts),
    )
