"""ONNX files opened by onnxruntime."""

import importlib
from pathlib import Path
from typing import Any


def open_session(file: Path, where: str, threads: int, content: bytes | None = None) -> Any:
    """A session on the GPU where the runtime has one, else on the CPU.

    Args:
        file: the ONNX file.
        where: names it in errors.
        threads: of the runtime; 0: all cores.
        content: what is opened in the file's stead, made of it.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: onnxruntime cannot read it.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no ONNX file at {where}")
    runtime = importlib.import_module("onnxruntime")  # here: it takes 0.2 s
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(content or str(file), options, providers=providers)
    except Exception as error:  # onnxruntime raises kinds of its own
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{where} cannot be read by onnxruntime: {reason}") from None
