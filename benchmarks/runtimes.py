"""Rows of ``what=infer``: the student as the files that ``kdpose.export`` writes."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdpose.deploy import runner
from kdpose.deploy.card import SUFFIX
from kdpose.pose_net import PoseNet

RUNTIMES = {"onnxruntime": "onnx", "openvino": "openvino"}  # what runs which format
Run = Callable[[NDArray[np.uint8]], Any]


def exported(
    student: PoseNet, runtimes: Sequence[str], folder: Path, threads: int, calibration: int = 16
) -> Iterator[tuple[str, Run]]:
    """The student in each runtime and precision, ready to be fed crops ``(N, 3, H, W)``, uint8.

    All of it is in integers under int8: time does not depend on which weights a group has, and so
    ranges may be those of crops of noise.

    Args:
        student: in eval mode.
        runtimes: of :data:`RUNTIMES`.
        folder: for the files, which must outlive what is yielded.
        threads: of a runtime.
        calibration: crops that int8 ranges are measured on.

    Yields:
        Runtime and precision, and what runs it.

    Raises:
        ValueError: there is no such runtime, or the extra ``export`` is not installed.
    """
    _check(runtimes)
    if not runtimes:
        return
    from kdpose.deploy.build import as_form  # these need the extra
    from kdpose.deploy.graph import export_program, to_onnx
    from kdpose.deploy.quantize import OnnxQuantizer, OpenVinoQuantizer, group_order

    model, groups = to_onnx(export_program(student))
    shape = (calibration, 3, *reversed(student.codec.input_size))
    crops = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for name, form in ((name, RUNTIMES[name]) for name in runtimes):
        save, source = as_form(form, model)
        quantizer = OnnxQuantizer if form == "onnx" else OpenVinoQuantizer
        for precision in ("fp32", "int8"):
            if precision == "int8":
                source = quantizer(source, groups, crops)(group_order(groups.values()))
            path = folder / f"{name}_{precision}{SUFFIX[form]}"
            save(source, path, {})
            yield f"{name} {precision}", runner.open_model(str(path), threads)[1]


def _check(runtimes: Sequence[str]) -> None:
    if not set(runtimes) <= RUNTIMES.keys():
        raise ValueError(f"what.cases.runtimes must be of {list(RUNTIMES)}, got {list(runtimes)}")
    if runtimes and find_spec("nncf") is None:
        raise ValueError(
            "what.cases.runtimes needs the extra: pip install 'kdpose[export]', or take "
            "what.cases.runtimes=[]"
        )
