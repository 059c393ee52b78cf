"""Networks made faster whose outputs stay what they were."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdpose.pose_net import PoseNet, RefinedPoseNet


def folded(net: PoseNet) -> PoseNet:
    """A copy of a frozen network whose batch norms are folded into the convolutions before them.

    Which batch norm reads which convolution is seen on a random crop, so that any backbone will
    do; those that read something else stay as they are.  The copy must never be trained.

    Args:
        net: in eval mode.

    Raises:
        ValueError: it is in training mode, or the copy's output differs, because a convolution
            that a batch norm reads is read by another layer as well.
    """
    if net.training:
        raise ValueError("a network must be in eval mode for its batch norms to be folded")
    copy = deepcopy(net)
    width, height = net.codec.input_size
    crop = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(0))
    crop = crop.to(net.mean.device, torch.uint8)
    with torch.no_grad():
        for norm, conv in _pairs(copy, crop).items():
            _fold(copy, norm, conv)
        before, after = net(crop).features[0], copy(crop).features[0]
    difference, scale = (before - after).abs().max().item(), before.abs().max().item()
    if not difference <= 1e-3 * scale:
        raise ValueError(
            f"folding the batch norms moved the finest map by {difference:.3g} (its largest value "
            f"is {scale:.3g}): take module.fold_teacher=false for this teacher"
        )
    return copy


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16; emulation takes ten times as long as float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def compile_parts(net: PoseNet | RefinedPoseNet, options: Mapping[str, Any]) -> None:
    """Compile, in place, what most of a network's time goes into: its backbone and its refiner.

    Names in the state dict stay.  The head, three layers, stays eager: gradient norms are taken at
    the map between backbone and head, which must be a tensor of its own for that.  Shapes are
    taken as they come: a split has few, and CUDA graphs are of one shape anyway.

    Args:
        net: what is called as before.
        options: of ``torch.compile``; a graph break is an error unless they say otherwise.
    """
    parts: list[Any] = [net.backbone] if isinstance(net, PoseNet) else []
    if isinstance(net, RefinedPoseNet):
        parts = [net.student.backbone, net.refiner]
    for part in parts:
        if part._compiled_call_impl is None:
            part.compile(**{"fullgraph": True, "dynamic": False, **options})


def _pairs(net: nn.Module, crop: Tensor) -> dict[nn.Module, nn.Conv2d]:
    """Each batch norm with the convolution whose output it reads, both called once."""
    made: list[tuple[Tensor, nn.Conv2d]] = []
    read: list[tuple[nn.Module, Tensor]] = []

    def after(conv: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        made.append((output, conv))

    def before(norm: nn.Module, args: tuple[Tensor]) -> None:
        read.append((norm, args[0]))

    hooks = [m.register_forward_hook(after) for m in net.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks += [m.register_forward_pre_hook(before) for m in norms]
    net(crop)
    for hook in hooks:
        hook.remove()
    source = {id(output): conv for output, conv in made}  # `made` keeps them, so ids stay theirs
    calls = [module for _, module in made] + [module for module, _ in read]
    found = {norm: source[id(given)] for norm, given in read if id(given) in source}
    return {n: c for n, c in found.items() if calls.count(n) == calls.count(c) == 1}


def _fold(net: nn.Module, norm: nn.Module, conv: nn.Conv2d) -> None:
    """Let the convolution do the batch norm's work; timm's batch norms keep their activation."""
    assert isinstance(norm, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(conv, norm)
    conv.weight, conv.bias = fused.weight, fused.bias
    rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    (name,) = (name for name, module in net.named_modules() if module is norm)
    net.set_submodule(name, nn.Sequential(*rest))
