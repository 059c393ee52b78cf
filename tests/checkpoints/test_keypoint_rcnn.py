"""torchvision's Keypoint R-CNN answers as torchvision's own pass does, in a given box."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torchvision.models import get_model

import kdpose.checkpoints.torchvision_nets
from kdpose.checkpoints.guest_net import open_guest
from kdpose.checkpoints.keypoint_rcnn import KeypointRcnnNet
from kdpose.codecs.spread import map_spread
from kdpose.skeletons.known import COCO, CROWDPOSE

CONF = Path(__file__).parents[2] / "conf"
W, H = 96, 128
NAME = "keypointrcnn_resnet50_fpn"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights as torchvision stores them, of small random values."""
    torch.manual_seed(0)
    net = get_model(NAME, weights=None, weights_backbone=None)
    for name, value in net.state_dict().items():
        if name.endswith(("bn1.weight", "bn2.weight", "bn3.weight")):
            value.fill_(0.5)  # or activations grow from block to block
    path = tmp_path_factory.mktemp("weights") / "keypointrcnn.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def net(file):
    return KeypointRcnnNet(str(file), input_size=(W, H))


def crops(count=2):
    return torch.randint(0, 256, (count, 3, H, W), generator=torch.manual_seed(1)).byte()


def test_its_joints_are_torchvisions_own_of_the_same_box(net, monkeypatch):
    model, box = net.net, torch.tensor([[W * 0.1, H * 0.1, W * 0.9, H * 0.9]])  # padding 1.25
    found = [box] * 2, [torch.ones(1)] * 2, [torch.ones(1, dtype=torch.long)] * 2
    monkeypatch.setattr(model.roi_heads, "postprocess_detections", lambda *_: found)
    monkeypatch.setattr(model.transform, "min_size", (W,))  # as it is, not enlarged
    with torch.no_grad():
        theirs = model(list(crops() / 255))
    answer = net.look(crops())
    for one, joints in zip(theirs, answer.joints, strict=True):
        torch.testing.assert_close(one["boxes"], box)
        torch.testing.assert_close(joints, one["keypoints"][0, :, :2], atol=1e-3, rtol=0)
    assert answer.joints.shape == (2, 17, 2)


def test_scores_and_spreads_of_maps_by_hand(net, monkeypatch):
    share = torch.zeros(1, 17, 56, 56)
    share[:, :, 20, 30], share[:, :, 20, 31], share[:, :, 40, 30] = 0.5, 0.3, 0.2
    logits = share.log().clamp(min=-1e4)
    monkeypatch.setattr(net.net.roi_heads.keypoint_predictor, "forward", lambda _: logits)
    answer = net.look(crops(1))
    torch.testing.assert_close(answer.scores, torch.full((1, 17), 0.8))  # of a cell and the next
    cell = torch.tensor([0.8 * W, 0.8 * H]) / 56
    cells = answer.spread / map_spread(share)
    torch.testing.assert_close(cells, cell.expand(1, 17, 2))


def test_its_feature_is_the_finest_map_of_the_pyramid(net):
    assert net.feature(crops()).shape == (2, 256, H // 4, W // 4)


def test_the_mirrored_crop_gives_mirrored_joints(net):
    answer, mirrored = net.answer(crops(), flip=True), net.answer(crops().flip(-1), flip=True)
    order = list(COCO.flip_order)
    expected = answer.joints[:, order]
    expected = torch.stack([W - 1 - expected[..., 0], expected[..., 1]], -1)
    torch.testing.assert_close(mirrored.joints, expected, atol=1e-3, rtol=0)


def test_a_file_with_other_joints_is_refused(file):
    with pytest.raises(ValueError, match=r"\(from teacher.file\) does not fit keypointrcnn") as no:
        KeypointRcnnNet(str(file), CROWDPOSE)
    assert "\n" not in str(no.value)


def test_without_a_network_it_says_where_to_put_the_weights(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(kdpose.checkpoints.torchvision_nets, "get_model", offline)
    with pytest.raises(FileNotFoundError, match=r"no route.*keypointrcnn.*or at teacher.file=FILE"):
        KeypointRcnnNet()


def test_its_configuration_builds_it(file):
    words = ["teacher=keypoint_rcnn", f"teacher.file={file}", "teacher.input_size=[96,128]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        teacher = compose("train", ["+experiment=stage1", "dataset=synthetic", *words]).teacher
    opened = open_guest(OmegaConf.to_container(teacher, resolve=True)).net
    assert isinstance(opened, KeypointRcnnNet)
    assert (opened.codec.input_size, opened.name) == ((96, 128), "keypointrcnn")
    assert str(opened) == "Keypoint R-CNN, 17 joints (coco) from 96x128, padding 1.25"
