"""Prepare a network for export in a format and precision, with int8 layers chosen by cost."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.deploy.card import SUFFIX
from kdpose.deploy.formats import save_onnx, save_openvino, save_pt2
from kdpose.deploy.graph import export_program, to_onnx
from kdpose.deploy.parity import Array, LabelledCrops, Network, average_precision, run
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
    calibration: NDArray[np.uint8],
    scored: LabelledCrops,
    *,
    budget: float,
    always_table: bool,
    threads: int,
) -> Quantized:
    """The network with as many layer groups in 8-bit integers as the budget allows.

    Args:
        net: to quantise.
        form: ``onnx`` or ``openvino``.
        reference: the network in PyTorch.
        calibration: crops ``(N, 3, H, W)``, uint8, on which ranges are measured.
        scored: labelled training crops, on which AP is measured.
        budget: AP that may be lost on them, percent.
        always_table: measure the groups one by one even if all can be integers.
        threads: of the runtime.
    """
    model, groups = to_onnx(export_program(net))
    save, source = as_form(form, model)
    quantizer = OnnxQuantizer if form == "onnx" else OpenVinoQuantizer
    quantized = functools.lru_cache(maxsize=2)(quantizer(source, groups, calibration))
    before = run(reference, scored)

    def measure(chosen: tuple[str, ...]) -> Cost:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"int8{SUFFIX[form]}"
            save(quantized(chosen), path, {})
            return _cost(before, run(open_model(str(path), threads)[1], scored), scored)

    order = group_order(groups.values())
    choice = choose_int8(measure, order, budget, always_table)
    final = quantized(choice.int8) if choice.int8 else source
    return Quantized(functools.partial(save, final), choice, order, measure)


def _cost(before: tuple[Array, Array], after: tuple[Array, Array], scored: LabelledCrops) -> Cost:
    """AP lost, in percent, and how far joints moved, in crop pixels."""
    lost = average_precision(scored, *before) - average_precision(scored, *after)
    return Cost(round(lost, 2), float(np.linalg.norm(after[0] - before[0], axis=-1).mean()))


def as_form(form: str, model: Any) -> tuple[Callable[..., None], Any]:
    """A function that writes the ONNX graph in a format, and the graph in that library."""
    if form == "onnx":
        return save_onnx, model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save_onnx(model, path, {})
        return save_openvino, openvino_core().read_model(path)
