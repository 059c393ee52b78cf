"""8-bit integers by the runtimes' own quantisers, calibrated on crops, group by group.

The chosen layer groups are quantised; all others stay in float32.
"""

import logging
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import rich
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kdpose.deploy.graph import INPUT

os.environ.setdefault("NNCF_CI", "1")  # no usage reports
# torch warns on every machine without a GPU when NNCF looks for a compiler
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
import nncf  # noqa: E402 so after the line above

Crops = NDArray[np.uint8]
_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_BETWEEN = (
    "Add",
    "Clip",
    "Relu",
    "MaxPool",
    "AveragePool",
    "Resize",
)  # keep a backbone in integers


class _Reader(CalibrationDataReader):
    """Provides crops for onnxruntime's calibration."""

    def __init__(self, crops: Crops, batch_size: int = 8) -> None:
        starts = range(0, len(crops), batch_size)
        self.batches: Iterator[Crops] = iter([crops[s : s + batch_size] for s in starts])

    def get_next(self) -> dict[str, Crops] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch}


class OnnxQuantizer:
    """Static QDQ of onnxruntime: 8-bit activations, 7-bit weights per channel.

    Seven bits (``reduce_range``), because processors without VNNI add pairs of 8-bit products in 16
    bits, which saturate, so that the file would be less exact there.

    Args:
        model: in float32.
        groups: layer group by node name.
        crops: ``(N, 3, H, W)`` to calibrate on; ranges are measured once.
    """

    def __init__(self, model: onnx.ModelProto, groups: Mapping[str, str], crops: Crops) -> None:
        self.groups, self.crops = groups, crops
        self.weights = {tensor.name for tensor in model.graph.initializer}
        self.folder = tempfile.TemporaryDirectory()
        self.ranges = Path(self.folder.name) / "ranges.json"
        self.prepared = Path(self.folder.name) / "prepared.onnx"
        onnx.save(model, self.prepared)
        quant_pre_process(  # shapes; constants are already folded by the exporter
            self.prepared, self.prepared, skip_optimization=True, skip_symbolic_shape=True
        )
        self.nodes = list(model.graph.node)

    def __call__(self, chosen: Collection[str]) -> onnx.ModelProto:
        """The model with the chosen groups in integers."""
        nodes = [node.name for node in self.nodes if self._quantised(node, chosen)]
        target = Path(self.folder.name) / "int8.onnx"
        quantize_static(
            self.prepared,
            target,
            _Reader(self.crops),
            op_types_to_quantize=[*_WEIGHTED, *_BETWEEN],
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibration_cache_path=self.ranges,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
        )
        return onnx.load(target)

    def _quantised(self, node: onnx.NodeProto, chosen: Collection[str]) -> bool:
        group = self.groups.get(node.name)
        if node.op_type == "MatMul" and node.input[1] not in self.weights:
            return False  # a graph's attention stands on the left
        kinds = (*_WEIGHTED, *_BETWEEN) if group and group.startswith("backbone") else _WEIGHTED
        return group in chosen and node.op_type in kinds


class OpenVinoQuantizer:
    """NNCF's post-training quantisation: 8-bit activations and weights per channel.

    Args:
        model: in float32, converted from the ONNX graph, whose node names it keeps.
        groups: layer group by the ONNX node's name.
        crops: ``(N, 3, H, W)`` to calibrate on.
    """

    def __init__(self, model: openvino.Model, groups: Mapping[str, str], crops: Crops) -> None:
        self.model, self.groups, self.crops = model, groups, crops

    def __call__(self, chosen: Collection[str]) -> openvino.Model:
        """The model with the chosen groups in integers."""
        nncf.set_log_level(logging.ERROR)
        kept = [op.get_friendly_name() for op in self.model.get_ops() if not self._in(op, chosen)]
        dataset = nncf.Dataset([crop[None] for crop in self.crops])
        with _without_bars():
            return nncf.quantize(
                self.model.clone(),
                dataset,
                subset_size=len(self.crops),
                preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations
                ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
            )

    def _in(self, op: Any, chosen: Collection[str]) -> bool:
        group = self.groups.get(op.get_friendly_name().removesuffix("/WithoutBiases"))
        if group is None or group not in chosen:
            return False
        if op.get_type_name() == "MatMul" and _constant(op.input_value(0).get_node()):
            return False  # a graph's attention stands on the left
        return group.startswith("backbone") or op.get_type_name() in ("Convolution", "MatMul")


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide NNCF's progress bars, several per layer group, on rich's shared console."""
    shared = rich.get_console()
    before, shared.quiet = shared.quiet, True
    try:
        yield
    finally:
        shared.quiet = before


def _constant(op: Any) -> bool:
    return op.get_type_name() == "Constant"


def group_order(groups: Iterable[str]) -> list[str]:
    """The distinct groups, in the order of the graph."""
    return list(dict.fromkeys(groups))
