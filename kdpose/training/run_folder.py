"""A run's folder: made, continued or kept aside."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.resume import check_resumable
from kdpose.runtime.moved import present_name
from kdpose.runtime.ranks import rank
from kdpose.runtime.whole import write_whole
from kdpose.training.checkpoint_files import LAST, resumable

# what may differ between a run and its continuation: where and how fast it runs, not what it does
_FREE = (
    "resume",
    "run_dir",
    "data.num_workers",
    "data.cache_images",
    "data.crop",
    "data.resident",
    "logger",
    "callbacks",
    "debug",
    "doctor",
    "group",
    "hparams_search",
    "module.compile",
    "module.fold_teacher",
    "optimizer.fused",
    "teacher.check",
    "teacher.folder",
    "teacher.force",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.plugins",
    "trainer.strategy",
    "trainer.default_root_dir",
)


_BEGUN = "# begun in "  # the first line of config.yaml: relative paths in it are seen from there


def finished(run_dir: Path) -> bool:
    """Whether a run came to its end and was scored."""
    return (run_dir / "metrics.json").is_file()


def open_run(cfg: DictConfig) -> tuple[Path, str | None]:
    """Make the run's folder and write its configuration there.

    Where several processes train together, only the first touches the folder.

    With ``resume=auto`` an earlier run of the same configuration is continued, from the checkpoint
    before the last where the last is damaged. ``resume=PATH`` continues that file; otherwise an
    earlier run is kept aside as ``<folder>.1``, ``.2``, ..., so that nothing is ever overwritten.

    Returns:
        The folder, and the checkpoint to continue from, or None to begin.

    Raises:
        ValueError: the earlier run had another configuration, with the keys that differ; or the
            checkpoint is refused, see :func:`check_resumable`.
        FileNotFoundError: ``resume=PATH`` is not there.
    """
    run_dir = Path(cfg.run_dir)
    saved = run_dir / "config.yaml"
    checkpoint = None
    if cfg.resume == "auto":
        checkpoint = _last(run_dir) if saved.is_file() else None
    elif cfg.resume not in (False, None):
        checkpoint = Path(cfg.resume)
    if rank() > 0:
        return run_dir, None if checkpoint is None else str(checkpoint)
    if checkpoint is not None and cfg.resume == "auto":
        _check_unchanged(run_dir, saved, cfg)
    elif checkpoint is not None:
        _check_longer(checkpoint, cfg.trainer.max_epochs)
    if checkpoint is None or checkpoint.absolute().parent != run_dir.absolute():
        _keep_aside(run_dir)
    elif cfg.resume != "auto":  # its score is of the shorter training
        (run_dir / "metrics.json").unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_whole(
        saved, f"{_BEGUN}{json.dumps(str(Path.cwd()))}\n{OmegaConf.to_yaml(cfg, resolve=True)}"
    )
    _log_to(run_dir / "train.log")
    return run_dir, None if checkpoint is None else str(checkpoint)


def _last(run_dir: Path) -> Path | None:
    """The checkpoint to go on from; that of a finished run is not read, and may be its best."""
    known = [run_dir / name for name in (LAST, "best.ckpt") if (run_dir / name).is_file()]
    return known[0] if finished(run_dir) and known else resumable(run_dir)


def _check_longer(checkpoint: Path, epochs: int) -> None:
    """Refuse a checkpoint that no training can go on from, or that is at the end already."""
    if not checkpoint.is_file():
        raise FileNotFoundError(f"no checkpoint at {checkpoint.absolute()} (from resume)")
    loops = check_resumable(checkpoint)["loops"]
    done = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
    if done >= epochs:
        raise ValueError(
            f"{checkpoint.absolute()} (from resume) has {done} epochs already: set "
            f"trainer.max_epochs above {done}, got {epochs}"
        )


def _check_unchanged(run_dir: Path, saved: Path, cfg: DictConfig) -> None:
    first = saved.read_text(encoding="utf-8").partition("\n")[0]
    place = first.removeprefix(_BEGUN)
    begun = None if place == first else Path(json.loads(place))
    changed = changes(OmegaConf.load(saved), cfg, begun=begun)
    if changed:
        raise ValueError(
            f"{run_dir.absolute()} was trained with other settings: {'; '.join(changed[:6])}. "
            "Use resume=false to start again (the old run is moved aside) or another name=NAME"
        )


def _keep_aside(run_dir: Path) -> None:
    """Rename the folder of an earlier run, if there is one."""
    if not any(run_dir.glob("*.ckpt")):
        return
    number = 1
    while (run_dir.parent / f"{run_dir.name}.{number}").exists():
        number += 1
    run_dir.rename(run_dir.parent / f"{run_dir.name}.{number}")


def _log_to(path: Path) -> None:
    """Send the log of this process to the run's file, and to no earlier run's."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict):
        return {k: v for name, x in node.items() for k, v in _flat(x, f"{prefix}{name}.").items()}
    return {prefix[:-1]: present_name(node) if isinstance(node, str) else node}


def changes(
    before: Any, after: Any, but: tuple[str, ...] = (), begun: Path | None = None
) -> list[str]:
    """Keys whose values differ, as ``key: old -> new``; a moved class is not a difference.

    Nor is a key that only one of them has, and has switched off: kdpose gains and loses options.
    A refiner's network is its student's, so there the configured one counts for nothing.

    Args:
        before: a configuration, resolved or resolvable.
        after: another.
        but: beginnings of keys that may differ, besides those of where and how fast a run goes.
        begun: the working folder of the first; a path to the same place is no difference.
    """
    old, new = (_flat(OmegaConf.to_container(cfg, resolve=True)) for cfg in (before, after))
    if all("refiner._target_" in flat for flat in (old, new)):
        but = (*but, "backbone.", "head.", "codec.")
    return [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if _differ(old.get(key), new.get(key), key in old and key in new)
        and not _same_place(old.get(key), new.get(key), begun)
        and not key.startswith((*_FREE, *but))
    ]


def _differ(old: Any, new: Any, both: bool) -> bool:
    return bool(old != new) and (both or not (old in (None, False) and new in (None, False)))


def _same_place(old: Any, new: Any, begun: Path | None) -> bool:
    """Whether two texts, as paths, name one place."""
    if begun is None or not (isinstance(old, str) and isinstance(new, str)):
        return False
    return os.path.normpath(begun / old) == os.path.normpath(Path.cwd() / new)


def config_hash(cfg: Any) -> str:
    """SHA-256 of what a configuration does, apart from where and how fast it runs."""
    flat = _flat(OmegaConf.to_container(cfg, resolve=True))
    kept = {key: flat[key] for key in sorted(flat) if not key.startswith(_FREE)}
    return hashlib.sha256(json.dumps(kept, default=str).encode()).hexdigest()
