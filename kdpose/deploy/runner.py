"""Poses from an exported network without torch: needs numpy, Pillow and the file's runtime.

python runner.py FILE IMAGE [X,Y,WIDTH,HEIGHT ...]   prints the joints of the boxes as JSON
"""

import functools
import importlib
import json
import os
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# one for the process: of two, the first to go frees a signal stack that is still in use
openvino_core = functools.cache(lambda: importlib.import_module("openvino").Core())


def open_model(path: str, threads: int = 0) -> tuple[dict[str, Any], Any]:
    """The file's card, and a function: uint8 crops (N, 3, H, W) -> joints (N, K, 2), scores."""
    if path.endswith(".onnx"):
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        card = json.loads(session.get_modelmeta().custom_metadata_map["kdpose"])
        return card, lambda crops: session.run(None, {"image": crops})
    if path.endswith(".xml"):
        model = openvino_core().read_model(path)
        # OpenVINO's default of bfloat16 moves joints by pixels
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = openvino_core().compile_model(model, "CPU", options)
        card = model.get_rt_info(["kdpose"]).astype(str)
        return json.loads(card), lambda crops: list(compiled(crops).values())
    import torch

    files = {"kdpose.json": ""}
    network = torch.export.load(path, extra_files=files).module()
    run = torch.no_grad()(lambda crops: [x.numpy() for x in network(torch.from_numpy(crops))])
    return json.loads(files["kdpose.json"]), run


def poses(card: dict[str, Any], network: Any, image: Image.Image, boxes: Any) -> Any:
    """Joints (P, K, 2) in image pixels and scores (P, K) of the boxes (P, 4) x, y, w, h."""
    (width, height), crops, places = card["input_size"], list[Any](), list[Any]()
    for x, y, w, h in boxes:
        scale = max(w / width, h / height) * card["padding"]  # image pixels per crop pixel
        left, top = x + w / 2 - scale * width / 2, y + h / 2 - scale * height / 2
        edge = (1 - scale) / 2  # Pillow's coordinates are those of pixel edges
        affine = (scale, 0, left + edge, 0, scale, top + edge)
        crop = image.transform((width, height), Image.Transform.AFFINE, affine, 2)  # bilinear
        crops, places = [*crops, np.asarray(crop)], [*places, (scale, left, top)]
    joints, scores = network(np.stack(crops).transpose(0, 3, 1, 2))
    where = np.array(places)[:, None]
    return joints * where[..., :1] + where[..., 1:], scores


if __name__ == "__main__":
    image = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
    boxes = [[float(v) for v in box.split(",")] for box in sys.argv[3:]] or [[0, 0, *image.size]]
    joints, scores = poses(*open_model(sys.argv[1]), image, boxes)
    print(json.dumps({"joints": joints.round(3).tolist(), "scores": scores.tolist()}))
