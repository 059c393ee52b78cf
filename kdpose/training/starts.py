"""What a network's values are before its training: a file's, its teacher's, or random."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from kdpose.checkpoints.guest_net import GuestNet
from kdpose.checkpoints.movenet_onnx import start_as_movenet
from kdpose.checkpoints.tensors import inherit, start_from
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.dataset import spread
from kdpose.pose_net import PoseNet, RefinedPoseNet

_log = logging.getLogger(__name__)
_CROPS = 64  # that batch norms are measured on


def begin(
    cfg: DictConfig,
    net: PoseNet | RefinedPoseNet,
    teacher: PoseNet | GuestNet | None,
    data: CocoKeypointDataModule,
) -> None:
    """Fill a network as ``start`` and ``teacher.inherit`` say; warn if all of it is random.

    Args:
        cfg: of the run.
        net: to be trained, in place; its backbone may have come with weights.
        teacher: of the run.
        data: of the run; an ONNX start looks at some of its training crops.

    Raises:
        FileNotFoundError: ``start`` is not there.
        ValueError: it does not fit; or stage 2, whose student is frozen, is asked to inherit.
    """
    if cfg.start is not None and Path(cfg.start).suffix == ".onnx":
        data.prepare_data()
        data.setup("fit")
        start_as_movenet(net, cfg.start, spread(data.datasets["train"], _CROPS).image)
    elif cfg.start is not None:
        start_from(net, cfg.start)
    inherits = isinstance(teacher, PoseNet) and start_from_teacher(cfg, net, teacher)
    if not inherits and _is_random(cfg):
        _log.warning(
            "the network starts from random values, and the published ones from ImageNet's: see "
            "backbone.pretrained=true (from timm's hub) and backbone.pretrained_file=FILE"
        )


def _is_random(cfg: DictConfig) -> bool:
    """Whether a pose network for photographs begins with nothing that it has learned."""
    given = (cfg.backbone.get("pretrained"), cfg.backbone.get("pretrained_file"), cfg.start)
    return cfg.refiner is None and cfg.dataset.name != "synthetic" and not any(given)


def start_from_teacher(cfg: DictConfig, net: PoseNet | RefinedPoseNet, teacher: PoseNet) -> bool:
    """Give a student its teacher's tensors where ``teacher.inherit`` asks for it.

    ``true`` asks for all, ``backbone`` for a new head on the teacher's backbone. Between skeletons
    it is the backbone's alone: heads have rows of joints.

    Returns:
        Whether it was asked for.

    Raises:
        ValueError: stage 2 is asked to, whose student is trained already, or no tensor is alike.
    """
    if not cfg.teacher.get("inherit", False):
        return False
    key = "teacher.inherit"
    if isinstance(net, RefinedPoseNet):
        raise ValueError(f"{key} is for stage 1: stage 2's student is stage1_ckpt's, and frozen")
    whole = cfg.teacher.inherit is True and net.skeleton.joints == teacher.skeleton.joints
    part = "" if whole else "backbone"
    inherit(net.get_submodule(part), teacher.get_submodule(part), key)
    return True
