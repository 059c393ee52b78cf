"""A teacher that a user brings to a pipeline: a checkpoint, another project's network, poses."""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.guest_net import GuestNet, LoadedGuest, open_guest
from kdpose.checkpoints.load import Loaded, load_net
from kdpose.evaluation.cost import complexity
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.runtime.files import check_file

START = "pretrained_file"  # of teacher and student: what their backbones start from
Rows = Mapping[str, Mapping[str, Any]]


def is_foreign(cfg: DictConfig) -> bool:
    """Whether the teacher is no checkpoint: stages cannot train it, and stored poses teach."""
    return cfg.get("teacher") is not None and "ckpt" not in cfg.teacher


def teacher_files(cfg: DictConfig) -> list[str]:
    """The files that the teacher consists of, as far as the configuration names them.

    Raises:
        FileNotFoundError: one does not exist.
    """
    key = "file" if is_foreign(cfg) else "ckpt"
    named = cfg.teacher.get(key) or []
    files = [named] if isinstance(named, str) else [str(file) for file in named]
    for file in files:
        check_file(file, f"teacher.{key}")
    return files


def guest(cfg: DictConfig, threads: int | None = None) -> LoadedGuest | None:
    """The network of another project; None where the teacher is a checkpoint or stored poses.

    Args:
        cfg: of the pipeline.
        threads: of its runtime, where it has one of its own, in place of the configuration's.
    """
    if not is_foreign(cfg) or not issubclass(get_object(cfg.teacher._target_), GuestNet):
        return None
    plain = OmegaConf.to_container(cfg.teacher, resolve=True)
    assert isinstance(plain, dict)
    plain.pop(START, None)
    if threads is not None and "threads" in plain:
        plain["threads"] = threads
    return open_guest({str(key): value for key, value in plain.items()})


def score_given(cfg: DictConfig) -> dict[str, Any] | None:
    """Score the teacher on the pipeline's validation split; None of stored poses.

    Returns:
        The record of :func:`evaluate_net`, or where its joints are others the cost alone; a
        checkpoint's also ``ckpt`` and ``options`` of :func:`load_net`, a guest's ``guest``, where
        it lies.
    """
    loaded: Loaded | LoadedGuest | None = guest(cfg)
    given: dict[str, Any]
    if is_foreign(cfg):
        if loaded is None:
            return None
        given = {"guest": loaded.net.where}
    else:
        options = {key: cfg.teacher[key] for key in ("skeleton", "input_size", "label")}
        given = {"ckpt": str(cfg.teacher.ckpt), "options": options}
        loaded = load_net(given["ckpt"], "teacher.ckpt", **options)
    joints = instantiate(cfg.dataset.skeleton, _convert_="all").joints
    if loaded.net.skeleton.joints != joints:  # its AP on the shared joints: the run's teacher.json
        cost = {} if isinstance(loaded, LoadedGuest) else complexity(loaded.net)
        return {**cost, **given}
    val = cfg.dataset.val
    metrics = evaluate_net(
        loaded,
        annotations=val.annotations,
        images=val.images,
        protocol=cfg.dataset.protocol,
        flip=cfg.module.flip_test,
    )
    return {**metrics, **given}


def open_models(rows: Rows, teacher: LoadedGuest | None) -> dict[str, Loaded | LoadedGuest]:
    """The networks of a pipeline's table, by row.

    Args:
        rows: by label, of ``table.json``.
        teacher: the network of a row that is a guest's; such a row is left out without it.
    """
    models: dict[str, Loaded | LoadedGuest] = {}
    for label, row in rows.items():
        if "guest" not in row:
            models[label] = load_net(row["ckpt"], **row.get("options", {}))
        elif teacher is not None:
            models[label] = teacher
    return models
