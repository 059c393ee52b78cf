"""Parameters and multiply-adds of a network."""

from collections.abc import Callable

import timm
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich import box
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdpose.backbones.hrnet import HRNet
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.pose_net import PoseNet, RefinedPoseNet

Net = PoseNet | RefinedPoseNet


def complexity(net: Net) -> dict[str, float]:
    """Parameters, and multiply-adds (which the field prints as FLOPs) of one crop, counted.

    Counted are convolutions and matrix products, as everybody does; torch counts two operations
    per multiply-add.
    """
    width, height = net.codec.input_size
    device = next(net.parameters()).device
    crop = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
    return {"params": _parameters(net), "gmacs": _gmacs(net.eval().pose, crop)}


def paper_complexity(net: Net) -> dict[str, float]:
    """The same counted as the paper's tables must have been, to compare with them.

    Their SimCC-HRNet-W32 at 256x192 has 28.5 M parameters, which leaves the SimCC head out, and
    7.8 GFLOPs, which an HRNet has only if its last module also fuses the three coarser outputs that
    no pose head reads. So this count is without the head's parameters and with those fusions'
    multiply-adds.
    """
    student = net.student if isinstance(net, RefinedPoseNet) else net
    honest = complexity(net)
    return {
        "params": honest["params"] - _parameters(student.head),
        "gmacs": honest["gmacs"] + _unread_fusions(student),
    }


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _unread_fusions(net: PoseNet) -> float:
    """Multiply-adds, in 1e9, of the fusions that :class:`HRNet` leaves out; 0 without an HRNet."""
    if not isinstance(net.backbone, HRNet):
        return 0.0
    width, height = net.codec.input_size
    with torch.device("meta"):  # shapes are all it takes
        whole = timm.create_model(
            net.backbone.body.pretrained_cfg["architecture"],
            features_only=True,
            feature_location="",
            out_indices=(1, 2, 3, 4),
        )
        ours = HRNet(net.backbone.body.pretrained_cfg["architecture"])
        crop = torch.zeros(1, 3, height, width)
    return _gmacs(whole.eval(), crop) - _gmacs(ours.eval(), crop)


def _gmacs(run: Callable[[Tensor], object], crop: Tensor) -> float:
    """Multiply-adds, in 1e9; torch's fused transformer layers would not be counted."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run(crop)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops() / 2e9)


def build(cfg: DictConfig) -> Net:
    """The network that a configuration describes, untrained and without any file of weights.

    The second stage's student is built from ``backbone``, ``head`` and ``codec`` too.
    """
    parts = [
        instantiate(node, _convert_="all") for node in (cfg.head, cfg.codec, cfg.dataset.skeleton)
    ]
    net = PoseNet(build_backbone(cfg.backbone, weights=False), *parts)
    if cfg.refiner is None:
        return net
    return RefinedPoseNet(net, instantiate(cfg.refiner, _convert_="all"))


def complexity_table(honest: dict[str, float], paper: dict[str, float]) -> Table:
    """Both counts, a row each."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("count", no_wrap=True)
    table.add_column("params M", justify="right")
    table.add_column("GMACs", justify="right")
    for label, row in (("all that runs", honest), ("as the paper counts", paper)):
        table.add_row(label, f"{row['params'] / 1e6:.3f}", f"{row['gmacs']:.3f}")
    return table
