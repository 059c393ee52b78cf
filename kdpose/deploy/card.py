"""The name and card of an exported file: its input, origin and terms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdpose.checkpoints.load import Loaded
from kdpose.data.transforms import PADDING
from kdpose.runtime.provenance import code_version, sha256

SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}  # by format
_UNSTATED = "not stated: the terms of the training data and of any pretrained weights apply"


def card(
    loaded: Loaded,
    ckpt: str | Path,
    precision: str,
    *,
    float_groups: Sequence[str] = (),
    weights_license: str | None = None,
) -> dict[str, Any]:
    """Plain values that are stored in the file.

    Args:
        loaded: the network and its checkpoint's description.
        ckpt: the checkpoint's path, for its hash.
        precision: ``fp32``, ``fp16`` or ``int8``.
        float_groups: layer groups that stayed in float32 under ``int8``.
        weights_license: terms of use of the weights.
    """
    codec, said = loaded.net.codec, loaded.description
    dataset = said["dataset"]
    return {
        "input": "image: uint8 (N, 3, H, W), RGB; normalisation is inside",
        "output": "joints: (N, K, 2), x, y in crop pixels, pixel centres at integers; "
        "scores: (N, K)",
        "input_size": list(codec.input_size),
        "padding": PADDING,
        "split_ratio": getattr(codec, "split_ratio", None),  # of SimCC's bins
        "skeleton": loaded.net.skeleton.to_dict(),
        "flip_order": list(loaded.net.skeleton.flip_order),
        "precision": precision,
        "float_groups": list(float_groups),
        "provenance": {
            **{key: value for key, value in said.items() if key not in ("net", "dataset")},
            "dataset": {key: dataset[key] for key in ("name", "protocol") if key in dataset},
            "checkpoint_sha256": sha256(ckpt),
            "exported_by": code_version(),
        },
        "license": {"code": "Apache-2.0", "weights": weights_license or _UNSTATED},
    }


def files_of(path: Path) -> list[Path]:
    """The files of an export: OpenVINO stores the weights in a second one."""
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
