"""Names that earlier versions used in configurations, and what replaces them."""

import re
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

# modules and what lies in them: the first entry that is the name, or a package above it, counts
_NAMES = {
    "kdpose.benchmarks": "benchmarks",
    "kdpose.callbacks": "kdpose.training.callbacks",
    "kdpose.checkpoints.load_net": "kdpose.checkpoints.load.load_net",
    "kdpose.checkpoints.load_teacher": "kdpose.checkpoints.load.load_teacher",
    "kdpose.dashboards": "kdpose.training.dashboards",
    "kdpose.data.synthetic.generate": "kdpose.data.synthetic.crowds.generate",
    "kdpose.keypoints.COCO": "kdpose.skeletons.known.COCO",
    "kdpose.keypoints.CROWDPOSE": "kdpose.skeletons.known.CROWDPOSE",
    "kdpose.keypoints": "kdpose.skeletons.skeleton",
    "kdpose.modules.base": "kdpose.training.pose_module",
    "kdpose.modules.distill": "kdpose.training.stage1",
    "kdpose.modules.refine": "kdpose.training.stage2",
    "kdpose.modules": "kdpose.training",
    "kdpose.skeleton_files": "kdpose.skeletons.files",
}
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


def present_name(name: str) -> str:
    """The name that a module, class or function has today."""
    for old, new in _NAMES.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def renamed(cfg: DictConfig) -> DictConfig:
    """Replace old names in a configuration, in place; interpolations stay as they are."""
    _rename(cfg, OmegaConf.to_container(cfg, resolve=False))
    return cfg


def _rename(node: Any, plain: Any) -> None:  # noqa: ANN401
    assert isinstance(node, DictConfig | ListConfig)
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        if isinstance(value, dict | list):
            _rename(node[key], value)
        elif isinstance(value, str) and present_name(value) != value:
            node[key] = present_name(value)


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
