"""A network that starts as MoveNet Lightning, from the ONNX file that holds its weights."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdpose.backbones.movenet import MoveNetPyramid
from kdpose.heads.simcc_maps import SimCCMapsHead
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO
from kdpose.skeletons.shared import SkeletonBridge

_log = logging.getLogger(__name__)
_OTHER_HEADS = ("kpt_regress", "kpt_offset", "center_0")  # of MoveNet, which SimCC does not need
_MODULES = "backbone=mobilenetv2_movenet"


def start_as_movenet(net: nn.Module, path: str | Path, crops: Tensor, key: str = "start") -> None:
    """Give a network the weights of MoveNet Lightning.

    With SimCCMapsHead it predicts poses before any training. Of another skeleton, the joints that
    COCO's 17 have by the same names start as MoveNet's, and the others at random. Any other head
    starts at random, on MoveNet's backbone.

    The file's batch norms are folded into its convolutions.  Here each is put back with the mean
    and variance that its input has on the given crops, which leaves the function as it is and lets
    training go on from there.

    Args:
        net: a :class:`~kdpose.pose_net.PoseNet` of MoveNetPyramid, in place.
        path: of ``movenet_lightning.onnx``.
        crops: ``(B, 3, H, W)``, uint8; some of the training set.
        key: config key that the path came from, for errors.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: it is no MoveNet Lightning, or the network is another.
    """
    where = f"{Path(path).absolute()} (from {key})"
    own = _own_convolutions(net, where)
    file = _fitting_convolutions(path, own, where)
    assert isinstance(net, PoseNet)
    known = 0
    with torch.no_grad():
        file[0] = _renormalised(net, *file[0])
        if isinstance(net.head, SimCCMapsHead):
            bridge = SkeletonBridge.between(net.skeleton, COCO)
            file[-1] = _in_joints_of(bridge, own[-1][0], *file[-1])
            known = len(bridge.student_joints)
        for (conv, norm), (weight, bias) in zip(own, file, strict=True):
            _fill(conv, norm, weight, bias)
        _put_back(net, crops)
    _log.info(
        "%s: MoveNet Lightning, %d convolutions from %s, %d of %d joints",
        key, len(own), path, known, len(net.skeleton),
    )  # fmt: skip


def _own_convolutions(net: nn.Module, where: str) -> list[tuple[nn.Conv2d, Any]]:
    """Those of a network that can start as MoveNet, from input to feature, or to heatmaps."""
    if isinstance(net, PoseNet) and isinstance(net.backbone, MoveNetPyramid):
        maps = _in_order(net.head.maps) if isinstance(net.head, SimCCMapsHead) else ()
        return [*_in_order(net.backbone), *maps]
    raise ValueError(f"{where}: an ONNX file is a start for {_MODULES} alone")


def _in_joints_of(
    bridge: SkeletonBridge, conv: nn.Conv2d, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The last convolution's rows in the network's joints; those of its own stay random."""
    ours, its = list(bridge.student_joints), list(bridge.teacher_joints)
    assert conv.bias is not None
    kernel, offset = conv.weight.detach().clone(), conv.bias.detach().clone()
    kernel[ours], offset[ours] = weight[its], bias[its]
    return kernel, offset


def _fill(conv: nn.Conv2d, norm: Any, weight: Tensor, bias: Tensor) -> None:
    """Give a convolution and the batch norm behind it, if any, a folded convolution's function."""
    conv.weight.copy_(weight)
    if norm is not None:
        _set(norm, torch.zeros_like(bias), torch.ones_like(bias), bias)
    elif conv.bias is not None:
        conv.bias.copy_(bias)


def _fitting_convolutions(
    path: str | Path, own: list[tuple[nn.Conv2d, Any]], where: str
) -> list[tuple[Tensor, Tensor]]:
    """The file's weights and biases; all but the joints' fit the network's convolutions."""
    every = list(_convolutions(path, where))
    file = every[: len(own)]
    shapes = [tuple(conv.weight.shape) for conv, _ in own]
    if len(own) == len(every):  # the head's last one is of the network's own joints
        shapes[-1] = (len(COCO), *shapes[-1][1:])
    if [tuple(weight.shape) for weight, _ in file] != shapes:
        raise ValueError(
            f"{where} has {len(every)} convolutions that are not those of MoveNet Lightning: take "
            "movenet_lightning.onnx"
        )
    return file


def _convolutions(path: str | Path, where: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights and biases of the file's convolutions from input to heatmaps, in order."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {where}")
    try:
        import onnx
    except ModuleNotFoundError:
        raise ValueError(f"{where} needs onnx: pip install kdpose[export]") from None
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"{where} is no ONNX file: {type(error).__name__}") from None
    values = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type != "Conv" or any(name in node.output[0] for name in _OTHER_HEADS):
            continue
        weight, *bias = (
            torch.from_numpy(onnx.numpy_helper.to_array(values[name]).copy())
            for name in node.input[1:]
            if name in values
        )
        yield weight, bias[0] if bias else torch.zeros(len(weight))


def _in_order(module: nn.Module) -> Iterator[tuple[nn.Conv2d, Any]]:
    """A module's convolutions as they run, each with the batch norm behind it, if any."""
    if not isinstance(module, MoveNetPyramid):
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        yield from ((conv, None) for conv in convs)
        return
    norms = (m for m in module.modules() if isinstance(m, _BatchNorm))
    body = (module.conv_stem, module.blocks, module.conv_head)
    for part in body:
        convs = [m for m in part.modules() if isinstance(m, nn.Conv2d)]
        yield from zip(convs, norms, strict=False)  # the next part goes on with the norms
    yield module.top, None
    for level in (2, 1, 0):
        yield module.laterals[level], None  # type: ignore[misc]  # a convolution
        yield from _in_order(module.smooth[level])


def _renormalised(net: PoseNet, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The first convolution for the network's pixels; MoveNet's are x / 127.5 - 1."""
    mean, std = net.mean.flatten() / 127.5 - 1, net.std.flatten() / 127.5
    return weight * std[:, None, None], bias + (weight * mean[:, None, None]).sum((1, 2, 3))


def _set(norm: Any, mean: Tensor, var: Tensor, bias: Tensor) -> None:  # timm's
    """A batch norm of these statistics that only adds a bias."""
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_((var + norm.eps).sqrt())
    norm.bias.copy_(bias + mean)


def _put_back(net: PoseNet, crops: Tensor) -> None:
    """Give every batch norm its input's statistics, in one pass, and keep the function."""

    def measure(norm: Any, args: tuple[Tensor, ...]) -> None:  # timm's
        var, mean = torch.var_mean(args[0], (0, 2, 3), correction=0)
        _set(norm, mean, var.clamp(min=1e-6), norm.bias)

    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    training = net.training
    net.eval()
    net(crops)
    net.train(training)
    for hook in hooks:
        hook.remove()
