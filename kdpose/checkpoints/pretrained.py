"""Backbones as a training begins with them: built from the configuration, filled from a file."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from torch import Tensor

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.timm_map import TimmMap
from kdpose.backbones.timm_pyramid import TimmPyramid, timm_model
from kdpose.backbones.vit import ViT
from kdpose.checkpoints.efficientnet_names import timm_names
from kdpose.checkpoints.foreign import looks_like, recognise
from kdpose.checkpoints.tensors import announce, check_share, fit, read_checkpoint, share, tensors

_KEY = "pretrained_file"
PRETRAINED = f"backbone.{_KEY}"  # where a backbone's file is configured
# arguments of ours that change no tensor but a position embedding
_OWN = ("features_only", "out_indices", "img_size", "num_classes", "drop_path_rate")


def build_backbone(cfg: DictConfig, weights: bool = True) -> Any:
    """The backbone of a configuration, with the weights that it asks for.

    Args:
        cfg: ``_target_`` and its arguments; ``pretrained_file`` goes before ``pretrained``.
        weights: whether to take any.

    Raises:
        FileNotFoundError: ``pretrained_file`` is not there.
        ValueError: the weights cannot be had or do not fit.
    """
    cfg, path = cfg.copy(), cfg.get(_KEY) if weights else None
    with open_dict(cfg):
        cfg.pop(_KEY, None)
        if path is not None or not weights:
            cfg.pop("pretrained", None)
    backbone = instantiate(cfg, _convert_="all")
    if path is not None:
        fill(backbone, str(path))
    return backbone


def fill(backbone: HRNet | TimmPyramid | TimmMap | ViT, path: str) -> None:
    """Take a backbone's weights from a file and log the share that matched.

    Args:
        backbone: an HRNet takes an ImageNet HRNet of the official code or of timm, or the backbone
            of a pose checkpoint; the others take timm's own file, one with the same names
            (torchvision's and mmpose's ResNets) or with ``efficientnet_pytorch``'s, or a pose
            checkpoint of kdpose, which fills a pyramid's neck as well.
        path: of the file.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it does not fit, or this kind of backbone is filled otherwise.
    """
    if not isinstance(backbone, HRNet | TimmPyramid | TimmMap | ViT):
        raise ValueError(
            f"{PRETRAINED} is for HRNet and timm's networks, not {type(backbone).__name__}: take "
            "start=PATH, a file with the network's own names"
        )
    where = f"{Path(path).absolute()} (from {PRETRAINED}, for {backbone.name})"
    weights = tensors(read_checkpoint(path, PRETRAINED), where)
    if isinstance(backbone, HRNet):
        file = recognise(weights)
        bare = file.backbone if file is not None else weights
        fit(backbone.body, bare, looks_like(weights), PRETRAINED, where)
    else:
        _fill_timm(backbone, weights, where)


def _fill_timm(
    backbone: TimmPyramid | TimmMap | ViT, weights: dict[str, Tensor], where: str
) -> None:
    """Body and any neck from a pose checkpoint, or the body from a classifier."""
    weights = {n.removeprefix("backbone."): v for n, v in weights.items()}
    if any(n.startswith("body.") for n in weights):
        fit(backbone, weights, "backbone of a kdpose checkpoint", PRETRAINED, where)
        return
    name, options = backbone.name, backbone.options
    headless = {k: v for k, v in options.items() if k not in _OWN}
    with torch.device("meta"):
        classifier = timm_model(name, num_classes=0, **headless)
    what = looks_like(weights)
    weights = timm_names(weights, list(classifier.state_dict()))
    count, missing = share(classifier, weights)
    check_share(count, missing, what, where)
    shapes = {n: v.shape for n, v in classifier.state_dict().items()}
    given = {n: v for n, v in weights.items() if shapes.get(n) == v.shape}
    # timm itself turns a classifier's names into those of its feature pyramid,
    # and interpolates a position embedding
    filled = timm_model(name, True, pretrained_cfg_overlay={"state_dict": given}, **options)
    backbone.body.load_state_dict(filled.state_dict())
    announce(PRETRAINED, what, count, missing)
