"""The brief look at the data before a training: seconds, even at COCO's size."""

import logging
import shlex
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from kdpose.checks.findings import exit_code
from kdpose.checks.inspect import inspect, places
from kdpose.skeletons.skeleton import Skeleton

_log = logging.getLogger(__name__)
_OPENED = 8  # images of each split
_SKIPPED = ("unreadable_image", "empty_image")  # by training, with a warning
_DATA = ("dataset.", "data_dir=", "category=")
_CAUSES = ("malformed_image", "malformed_person")  # of which others, such as no_persons, may follow


@rank_zero_only
def check_data(cfg: DictConfig, skeleton: Skeleton) -> None:
    """Check all sets' annotations and open a few images.

    Images that cannot be read are a warning unless none can: training skips them and says so.
    Warnings are logged in one line, by kind and count; :mod:`kdpose.doctor` shows all.

    Raises:
        ValueError: annotations cannot be read, or errors would make training or figures wrong.
    """
    where = places(cfg.dataset)
    for paths in where.values():
        if not Path(paths["images"]).is_dir():
            paths["images"] = None  # a pack stands in, or the loader says what is missing
    inspection = inspect(where, skeleton, open_images=_OPENED, look_for_all=False)
    found = [
        replace(f, severity="warning")
        if f.kind in _SKIPPED and f.count < inspection.opened[f.split]
        else f
        for f in inspection.findings
    ]
    if exit_code(found):
        wrong = [f for f in found if f.severity in ("error", "unusable")]
        first = next((f for f in wrong if f.kind in _CAUSES), wrong[0])
        if first.kind == "annotations":
            raise ValueError(first.message)
        case = f"; the first: {first.examples[0]}" if first.examples else ""
        raise ValueError(
            f"the {first.split or 'data'} split has {first.kind} ({first.count}): {first.message}"
            f"{case}. See all by `{_command(cfg)}`, or continue anyway with doctor=false"
        )
    warned = [f"{f.split} {f.kind} {f.count}".strip() for f in found if f.severity == "warning"]
    if warned:
        _log.warning("data: %s; `%s` shows them", ", ".join(warned), _command(cfg))


def _command(cfg: DictConfig) -> str:
    """The doctor's command line for a run's data."""
    words = ["kdpose", "doctor"]
    if not HydraConfig.initialized():
        return " ".join([*words, f"dataset={cfg.dataset.name}"])
    hydra_cfg = HydraConfig.get()
    chosen = hydra_cfg.runtime.choices.get("dataset", cfg.dataset.name)
    given = [o for o in hydra_cfg.overrides.task if o.startswith(_DATA)]
    return " ".join([*words, f"dataset={chosen}", *map(shlex.quote, given)])
