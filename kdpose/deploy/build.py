"""Prepare a network for export in a format and precision, with int8 layers chosen by cost."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from kdpose.deploy.card import SUFFIX
from kdpose.deploy.crops import Array, Crops
from kdpose.deploy.formats import save_onnx, save_openvino, save_pt2
from kdpose.deploy.graph import export_program, to_onnx
from kdpose.deploy.parity import Network, drawn_joints, run
from kdpose.deploy.quantize import OnnxQuantizer, OpenVinoQuantizer, group_order
from kdpose.deploy.runner import open_model, openvino_core
from kdpose.deploy.sensitivity import Cost, Quantized, Save, choose_int8
from kdpose.pose_net import PoseNet, RefinedPoseNet


def in_float(net: PoseNet | RefinedPoseNet, form: str, precision: str) -> Save:
    """The network in ``fp32`` or ``fp16``, ready to write as ``form``."""
    program = export_program(net, half=precision == "fp16")
    if form == "pt2":
        return functools.partial(save_pt2, program)
    model, _ = to_onnx(program)
    save, graph = as_form(form, model)
    return functools.partial(save, graph)


def in_integers(
    net: PoseNet | RefinedPoseNet,
    form: str,
    reference: Network,
    crops: Crops,
    wanted: DictConfig,
    threads: int,
    least: float,
) -> Quantized:
    """The network with as many layer groups in 8-bit integers as the budget allows.

    Args:
        net: to quantise.
        form: ``onnx`` or ``openvino``.
        reference: the network in PyTorch.
        crops: on the first of which ranges are measured, and on all of which the cost is.
        wanted: the keys of ``calibration`` in ``conf/deploy/default.yaml``.
        threads: of the runtime.
        least: score from which joints are drawn.
    """
    model, groups = to_onnx(export_program(net))
    save, source = as_form(form, model)
    quantizer = OnnxQuantizer if form == "onnx" else OpenVinoQuantizer
    quantized = functools.lru_cache(maxsize=2)(
        quantizer(source, groups, crops.pixels[: wanted.persons])
    )
    before = run(reference, crops)

    def measure(chosen: tuple[str, ...]) -> Cost:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"int8{SUFFIX[form]}"
            save(quantized(chosen), path, {})
            return _cost(before, run(open_model(str(path), threads)[1], crops), crops, least)

    order = group_order(groups.values())

    affordable = functools.partial(Cost.within, ap=wanted.ap, share=wanted.share)
    choice = choose_int8(measure, order, affordable, wanted.table)
    final = quantized(choice.int8) if choice.int8 else source
    return Quantized(functools.partial(save, final), choice, order, measure)


def _cost(
    before: tuple[Array, Array], after: tuple[Array, Array], crops: Crops, least: float
) -> Cost:
    distance = np.linalg.norm(after[0] - before[0], axis=-1)
    share = (distance / crops.extent[:, None])[drawn_joints(before[1], least)]
    ap = [crops.average_precision(*poses) for poses in (before, after)]
    lost = None if ap[0] is None or ap[1] is None else round(ap[0] - ap[1], 2)
    return Cost(lost, float(distance.mean()), float(np.percentile(share, 95)))


def as_form(form: str, model: Any) -> tuple[Callable[..., None], Any]:
    """A function that writes the ONNX graph in a format, and the graph in that library."""
    if form == "onnx":
        return save_onnx, model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save_onnx(model, path, {})
        return save_openvino, openvino_core().read_model(path)
