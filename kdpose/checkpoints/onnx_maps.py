"""The feature maps inside an ONNX file."""

import importlib
from collections.abc import Iterator
from pathlib import Path

_STRIDE = 4  # of the map that Eq. 1 compares
_CHANNELS = 8  # a map of fewer is an output rather than a feature
_SHOWN = 5


def feature_maps(file: Path, input_size: tuple[int, int]) -> list[str]:
    """The last inner tensors of stride 4, ``NAME (1, C, h, w)`` each; none where onnx is missing.

    Args:
        file: the ONNX file.
        input_size: W, H.
    """
    try:
        onnx = importlib.import_module("onnx")
        model = onnx.shape_inference.infer_shapes(onnx.load(file, load_external_data=False))
    except (ImportError, OSError, ValueError, RuntimeError):
        return []
    shapes = {
        value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        for value in model.graph.value_info
    }
    found = list(_of_stride_four(shapes, (input_size[1] // _STRIDE, input_size[0] // _STRIDE)))
    return [f"{name} {shapes[name]}" for name in found[-_SHOWN:]]


def with_output(file: Path, name: str, where: str, input_size: tuple[int, int]) -> bytes:
    """The file's content with one of its inner tensors as a further output.

    Args:
        file: the ONNX file.
        name: of the tensor.
        where: names the file in errors.
        input_size: W, H, for the list of tensors that would do.

    Raises:
        ValueError: onnx is missing, or there is no such tensor; the message lists some.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        raise ValueError("teacher.feature needs onnx: pip install 'kdpose[export]'") from None
    model = onnx.load(file)
    if name not in {output for node in model.graph.node for output in node.output}:
        maps = ", ".join(feature_maps(file, input_size)) or "none"
        raise ValueError(f"{where} has no tensor {name} (teacher.feature); of stride 4: {maps}")
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    content: bytes = model.SerializeToString()
    return content


def _of_stride_four(shapes: dict[str, tuple[int, ...]], size: tuple[int, int]) -> Iterator[str]:
    for name, shape in shapes.items():
        if len(shape) == 4:
            first, last = (shape[2:], shape[1]), (shape[1:3], shape[3])
            if any(place == size and count >= _CHANNELS for place, count in (first, last)):
                yield name
