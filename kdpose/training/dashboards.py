"""What loggers get besides the figures of each step: facts, pictures, the result, its lineage.

W&B is imported where it is used: a machine without it trains under the other loggers.
"""

import json
import netrc
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kdpose.display.drawing import draw_poses, pose_grid
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.skeleton import Skeleton
from kdpose.types import PoseBatch

_SHOWN = {"label": 1, "prediction": 2}  # a class each, so that a viewer can toggle them


def wandb_logger(run_dir: str, offline: bool | None = None, **options: Any) -> WandbLogger:
    """Lightning's logger, which goes on with the run that the folder has begun and asks nothing.

    Args:
        run_dir: keeps the run's id in ``wandb_id``: a resumed training is the same run.
        offline: None: online where ``WANDB_MODE`` says so or, without it, where there is a key.
        options: of ``wandb.init``: ``project``, ``name``, ``group``, ``tags``, ...
    """
    kept = Path(run_dir) / "wandb_id"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not kept.is_file():
        kept.write_text(secrets.token_hex(4))
    if os.path.expanduser("~") == "~":  # nobody knows it, and W&B asks for it
        os.environ["HOME"] = str(kept.parent.absolute())
    if not os.access(os.path.expanduser("~"), os.W_OK):  # where W&B stages files
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            os.environ.setdefault(name, str(kept.parent.absolute()))
    if offline is None:
        mode = os.environ.get("WANDB_MODE")
        offline = mode in ("offline", "dryrun") if mode else not has_key()
    return WandbLogger(id=kept.read_text(), save_dir=run_dir, offline=offline, **options)


def has_key() -> bool:
    """Whether W&B would let us in without a prompt."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@rank_zero_only
def begin(
    loggers: Iterable[Logger],
    cfg: DictConfig,
    count: Callable[[], Mapping[str, float]],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    """Log the whole configuration, the net's cost and the checkpoints it is made from.

    Args:
        loggers: of the trainer; those that only write figures are passed over.
        cfg: of the run.
        count: gives parameters and multiply-adds.
        sources: path of each checkpoint that the run reads, by the key that names it.

    Returns:
        Path and hash of each source, see :func:`end`.
    """
    boards = [x for x in loggers if isinstance(x, WandbLogger | TensorBoardLogger)]
    if not boards:
        return {}
    made_from = {
        key: {"path": str(Path(path).absolute()), "sha256": sha256(path)}
        for key, path in sources.items()
    }
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    cost = count()
    for board in boards:
        board.log_hyperparams({**plain, **cost, "made_from": made_from})
        if isinstance(board, WandbLogger) and not board.experiment.offline:
            for source in made_from.values():  # the service alone can tell a file used elsewhere
                board.experiment.use_artifact(_artifact(Path(source["path"]), source))
    return made_from


def show(
    loggers: Iterable[Logger], batch: PoseBatch, joints: Tensor, skeleton: Skeleton, step: int
) -> None:
    """Log validation crops with labels and predictions, which a viewer of W&B can toggle.

    Args:
        loggers: of the trainer.
        batch: the crops ``(B, 3, H, W)`` uint8; the same at every call, so that steps compare.
        joints: the predictions ``(B, K, 2)``, crop pixels.
        skeleton: whose limbs are drawn.
        step: of the training.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            grid = pose_grid(batch.image, [joints], skeleton)
            logger.experiment.add_image("val/poses", grid, step)
        elif isinstance(logger, WandbLogger):
            drawn = [_toggled(batch, joints, skeleton, row) for row in range(len(joints))]
            crops, masks, captions = zip(*drawn, strict=True)
            logger.log_image(
                "val/poses", list(crops), step=step, masks=list(masks), caption=list(captions)
            )


def _toggled(
    batch: PoseBatch, joints: Tensor, skeleton: Skeleton, row: int
) -> tuple[Any, dict[str, Any], str]:
    """An enlarged crop, its skeletons as masks, and which person of which image it is."""
    factor = max(1, round(256 / batch.image.shape[-2]))
    crop = batch.image[row].repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    poses = {
        "label": (batch.joints[row], batch.visible[row]),
        "prediction": (joints[row], torch.ones(len(skeleton))),
    }
    masks = {}
    for name, (pose, seen) in poses.items():
        blank = torch.zeros_like(crop)
        ink = draw_poses(blank, factor * pose[None], seen[None], skeleton, 0.5, ["#ffffff"])
        masks[name] = {
            "mask_data": ((ink[0] > 0) * _SHOWN[name]).numpy(),
            "class_labels": {number: label for label, number in _SHOWN.items()},
        }
    caption = f"image {int(batch.image_id[row])}, person {int(batch.person[row])}"
    return crop.permute(1, 2, 0).numpy(), masks, caption


@rank_zero_only
def end(
    loggers: Iterable[Logger],
    name: str,
    metrics: Mapping[str, Any],
    made_from: Mapping[str, Any] | None,
) -> None:
    """Log the result as a table and a summary, and the checkpoint as an artifact with its lineage.

    Args:
        loggers: of the trainer.
        name: of the run.
        metrics: what ``metrics.json`` holds; ``ckpt`` is the checkpoint.
        made_from: see :func:`begin`.
    """
    figures = {k: v for k, v in metrics.items() if isinstance(v, int | float) and k != "seed"}
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_metrics({f"final/{key}": value for key, value in figures.items()})
        elif isinstance(logger, WandbLogger):
            rows: list[list[Any]] = [[name, *figures.values()]]
            logger.log_table("final", ["model", *figures], rows)
            logger.experiment.summary.update({f"final/{k}": v for k, v in figures.items()})
            facts = {"sha256": sha256(metrics["ckpt"]), "made_from": made_from, **figures}
            logger.experiment.log_artifact(_artifact(Path(metrics["ckpt"]), facts))


def _artifact(checkpoint: Path, facts: Mapping[str, Any]) -> Any:
    """A checkpoint, the same wherever it is named: made by one run, used by another."""
    import wandb

    artifact = wandb.Artifact(checkpoint.parent.name, type="model", metadata=_plain(facts))
    artifact.add_file(str(checkpoint), policy="immutable")  # no copy: it stays where it is
    return artifact


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(facts, default=str)))


@contextmanager
def closing(loggers: Iterable[Logger]) -> Iterator[None]:
    """End the runs of W&B with the block: the next job of this process begins one of its own."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            wandb.finish(exit_code=int(failed))
