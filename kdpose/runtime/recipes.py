"""What the words of a command name: recipes, experiments of earlier versions, groups' options."""

import re
from collections.abc import Sequence
from pathlib import Path

_RECIPES = ("teacher", "baseline", "stage1", "stage2", "full", "ablation")
_ON_SYNTHETIC = {
    "teacher": "+scale=synthetic backbone=resnet10_wide trainer.max_epochs=8 "
    "trainer.check_val_every_n_epoch=8",
    "baseline": "+scale=synthetic",
    "stage1": "+scale=synthetic",
    "stage2": "+scale=synthetic refiner.residual=true refiner.hidden=64 "
    "refiner.widths=[96,64,64] trainer.max_epochs=3 trainer.check_val_every_n_epoch=1",
    "full": "pipeline=two_stage_synthetic",
    "ablation": "pipeline=ablation_synthetic",
}
_EXPERIMENTS = {
    "lspet_ablation_gpu": "+experiment=ablation dataset=lspet pipeline=ablation_gpu "
    "name=lspet_ablation_gpu",
    "lspet_full_cpu": "+experiment=full dataset=lspet pipeline=two_stage_cpu name=lspet_full_cpu",
    "lspet_student": "+experiment=ablation dataset=lspet pipeline=student scheme=searched "
    "name=lspet_student",
}


def words_for(run: str) -> str | None:
    """The words that train the run which a recipe names ``DATASET_RECIPE``, or None."""
    found = re.fullmatch(f"(.+)_({'|'.join(_RECIPES)})", run)
    if not found:
        return None
    dataset, name = found.groups()
    if dataset == "synthetic":
        return f"+experiment={name} {_ON_SYNTHETIC[name]}"
    return f"+experiment={name} dataset={dataset}"


def replacement(name: str) -> str | None:
    """The words that replace an experiment of an earlier version, or None."""
    of_old = name.startswith(("coco_", "crowdpose_", "lspet_", "synthetic_"))
    return _EXPERIMENTS.get(name) or (words_for(name) if of_old else None)


def check_names(words: Sequence[str], conf: Path) -> None:
    """Refuse, in Hydra's place, a group whose options are no names.

    Args:
        words: a command's overrides.
        conf: folder of the groups.

    Raises:
        ValueError: naming the group.
    """
    for word in words:
        group, _, value = word.lstrip("+").partition("=")
        items = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else []
        if (conf / group).is_dir() and any(re.fullmatch(r"[-+.\d]+", i.strip()) for i in items):
            raise ValueError(f"{group} must be names of conf/{group}, got {value}")
