"""torchvision's detection networks are filled from a file, or say where one belongs."""

from urllib.error import URLError

import pytest
import torch
from torchvision.models import get_model

import kdpose.checkpoints.torchvision_nets
from kdpose.checkpoints.torchvision_nets import (
    cached_weights,
    detection_names,
    load_detection_net,
)

SMALL, KEY = "ssdlite320_mobilenet_v3_large", "some.key"


@pytest.mark.parametrize("name", [SMALL, "keypointrcnn_resnet50_fpn"])  # 91 classes, and 2
def test_a_file_as_torchvision_writes_it_fills_the_network(name, tmp_path):
    theirs = get_model(name, weights=None, weights_backbone=None)
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    ours = load_detection_net(name, str(file), KEY).state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.state_dict().items())


def test_a_file_of_another_network_is_refused_in_one_line(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"\(from some\.key\) does not fit ssdlite320") as refused:
        load_detection_net(SMALL, str(tmp_path / "other.pth"), KEY)
    assert "\n" not in str(refused.value)


def test_without_a_download_both_places_for_a_file_are_named(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(kdpose.checkpoints.torchvision_nets, "get_model", offline)
    with pytest.raises(FileNotFoundError, match=r"no route to host.*or at some\.key=FILE, or ask"):
        load_detection_net(SMALL, None, KEY, ", or ask")
    assert cached_weights(SMALL).parent == tmp_path / "checkpoints"


def test_names_are_torchvisions():
    assert SMALL in detection_names()
    assert "resnet50" not in detection_names()
