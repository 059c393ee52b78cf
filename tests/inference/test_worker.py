import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from kdpose.inference.images import find_images
from kdpose.inference.predictor import load
from kdpose.inference.worker import ImageWorker, build_worker

BOXES = {2: 3, 3: 0, 5: 1, 6: 0, 8: 2}  # persons by image id; the others are damaged


@pytest.fixture
def images(tmp_path):
    for number in range(1, 10):
        path = tmp_path / f"{number}.png"
        if number in BOXES:
            pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_text("no picture")
    return find_images(str(tmp_path))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 50])
def test_results_come_in_order_whatever_waits(images, tiny_checkpoints, tmp_path, batch_size):
    predictor = load(tiny_checkpoints["student"], "cpu")
    predictor.batch_size = batch_size

    def boxes(picture, image_id):
        count = BOXES[image_id]
        rows = [[number, 0, 40, 50] for number in range(count)]
        return np.array(rows, np.float32).reshape(-1, 4), np.ones(count, np.float32)

    worker = ImageWorker(predictor, boxes, tmp_path, painter=None, crops=False)
    results = list(worker(images))
    assert [result.image for result in results] == images
    for image, persons, error in results:
        count = BOXES.get(image.image_id)
        assert (error is None) == (count is not None)
        assert len(persons) == (count or 0)
        assert [p["bbox"][0] for p in persons] == list(range(count or 0))
        assert {p["file_name"] for p in persons} <= {image.path.name}
        assert error is None or "cannot read the image" in error


def test_a_worker_is_what_the_configuration_says(tiny_checkpoints, tmp_path):
    cfg = {
        "ckpt": str(tiny_checkpoints["refined"]), "skeleton": None, "input_size": [192, 256],
        "label": None, "device": "cpu", "flip": True, "batch_size": 7, "threshold": 0.2,
        "compare": True, "boxes": "whole", "boxes_overlap": 0.5, "out": str(tmp_path), "draw": True,
        "crops": True, "detector": {"name": "auto", "weights": None, "threshold": None},
    }  # fmt: skip
    worker = build_worker(OmegaConf.create(cfg))
    assert (worker.predictor.flip, worker.predictor.batch_size) == (True, 7)
    assert worker.painter.threshold == 0.2
    assert worker.painter.stage1.batch_size == 7
    assert (worker.out, worker.crops) == (tmp_path, True)
    assert build_worker(OmegaConf.create(cfg | {"draw": False})).painter is None
