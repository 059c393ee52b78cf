"""Write the network in the formats of other runtimes, with the card inside."""

import json
from pathlib import Path
from typing import Any

import onnx
import openvino
import torch
from torch.export import ExportedProgram

_KEY = "kdpose"

Card = dict[str, Any]


def save_onnx(model: onnx.ModelProto, path: Path, card: Card) -> None:
    """Write one ONNX file."""
    onnx.helper.set_model_props(model, {_KEY: json.dumps(card)})
    onnx.save(model, path)


def save_openvino(model: openvino.Model, path: Path, card: Card) -> None:
    """Write OpenVINO's pair: the graph in ``.xml``, the weights beside it in ``.bin``."""
    model.set_rt_info(json.dumps(card), [_KEY])
    openvino.save_model(model, path, compress_to_fp16=False)  # fp16 is in the graph if requested


def save_pt2(program: ExportedProgram, path: Path, card: Card) -> None:
    """Write torch's own format."""
    torch.export.save(program, path, extra_files={f"{_KEY}.json": json.dumps(card)})
