"""Names that earlier versions used in configurations, and what replaces them."""

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


def _rename(node: Any, plain: Any) -> None:
    assert isinstance(node, DictConfig | ListConfig)
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        if isinstance(value, dict | list):
            _rename(node[key], value)
        elif isinstance(value, str) and present_name(value) != value:
            node[key] = present_name(value)
