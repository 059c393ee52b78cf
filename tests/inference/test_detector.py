from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model

import kdpose.checkpoints.torchvision_nets
from kdpose.checkpoints.torchvision_nets import cached_weights
from kdpose.inference.boxes import box_source, whole_image
from kdpose.inference.detector import (
    DetectorChoice,
    PersonDetector,
    choose_detector,
    load_detector,
)
from kdpose.inference.multipose import MultiPoseDetector

CPU = torch.device("cpu")
SMALL = "ssdlite320_mobilenet_v3_large"
USUAL = "fasterrcnn_mobilenet_v3_large_fpn"
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))


class Told(nn.Module):
    """A detector that finds what it was told, in torchvision's form."""

    def __init__(self, boxes, labels, scores):
        super().__init__()
        self.found = torch.tensor(boxes), torch.tensor(labels), torch.tensor(scores)

    def forward(self, images):
        assert images[0].shape == (3, 60, 80)
        assert 0 <= images[0].min() < images[0].max() <= 1
        return [dict(zip(("boxes", "labels", "scores"), self.found, strict=True))]


def test_persons_above_the_threshold_as_corner_and_size():
    boxes = [[1.0, 2, 11, 22], [5, 5, 9, 9], [3, 3, 8, 8], [4, 4, 4, 9], [20, 10, 50, 60]]
    told = Told(boxes, [1, 17, 1, 1, 1], [0.9, 0.9, 0.3, 0.9, 0.5])
    found, scores = PersonDetector(told, CPU, 0.5)(PICTURE)
    assert found.tolist() == [[1, 2, 10, 20], [20, 10, 30, 50]]  # no dog, no doubt, no line
    np.testing.assert_allclose(scores, [0.9, 0.5])


def test_nobody():
    found, scores = PersonDetector(Told([[1.0, 2, 3, 4]], [3], [0.9]), CPU)(PICTURE)
    assert (found.shape, scores.shape) == ((0, 4), (0,))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = get_model(SMALL, weights=None, weights_backbone=None)
    with torch.no_grad():  # drawn weights prefer any class; these see persons everywhere
        for layer in model.head.classification_head.modules():
            if isinstance(layer, nn.Conv2d) and layer.out_channels % 91 == 0 and layer.groups == 1:
                layer.bias.view(-1, 91)[:, 1] += 5
    path = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(model.state_dict(), path)
    return model.eval(), path


def test_a_local_file_is_torchvisions_own_detector(weights):
    model, path = weights
    found, scores = load_detector(DetectorChoice(SMALL, str(path), 0.0), CPU)(PICTURE)
    with torch.no_grad():
        pixels = torch.from_numpy(np.array(PICTURE)).permute(2, 0, 1) / 255
        expected = model([pixels])[0]
    person = expected["labels"] == 1
    assert person.any()
    np.testing.assert_allclose(scores, expected["scores"][person], atol=1e-6)
    corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], 1)
    np.testing.assert_allclose(corners, expected["boxes"][person], atol=1e-3)


def test_files_that_do_not_fit(weights, tmp_path):
    with pytest.raises(ValueError, match=r"\(from detector.weights\) does not fit ssd300_vgg16"):
        load_detector(DetectorChoice("ssd300_vgg16", str(weights[1]), 0.5), CPU)
    with pytest.raises(FileNotFoundError, match=r"none\.pth \(from detector\.weights\)"):
        load_detector(DetectorChoice(SMALL, str(tmp_path / "none.pth"), 0.5), CPU)
    with pytest.raises(ValueError, match=r"must be one of multipose, fasterrcnn_.*, got 'yolo'"):
        load_detector(DetectorChoice("yolo", None, 0.5), CPU)


def test_without_network_the_remedies_are_named(monkeypatch):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(kdpose.checkpoints.torchvision_nets, "get_model", offline)
    with pytest.raises(
        FileNotFoundError, match=r"no route to host.*detector\.weights=FILE, or use"
    ):
        load_detector(DetectorChoice(SMALL, None, 0.5), CPU)


def test_auto_is_torchvisions_detector_where_its_weights_are(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    assert choose_detector() == ("multipose", None, 0.1)
    assert choose_detector(threshold=0.3) == ("multipose", None, 0.3)
    assert choose_detector(SMALL) == (SMALL, None, 0.5)
    assert choose_detector(weights="d.pth") == (USUAL, "d.pth", 0.5)
    cached_weights(USUAL).parent.mkdir()
    cached_weights(USUAL).touch()
    assert choose_detector() == (USUAL, None, 0.5)
    with pytest.raises(ValueError, match=r"detector\.weights=d\.pth needs a torchvision detector"):
        choose_detector("multipose", "d.pth")


def test_the_bundled_detector_needs_no_weights():
    assert isinstance(load_detector(choose_detector("multipose"), CPU), MultiPoseDetector)
    assert box_source("whole", choose_detector("multipose"), CPU) is whole_image
