"""transformers' ViTPose is read from a folder, its heatmaps decoded in crop pixels."""

import importlib
import json

import pytest
import torch

from kdpose.checkpoints.guest_net import open_guest
from kdpose.checkpoints.huggingface_net import HuggingFaceNet
from kdpose.skeletons.known import COCO, CROWDPOSE

transformers = pytest.importorskip("transformers", reason="the extra kdpose[huggingface]")
W, H = 48, 64


def vitpose(folder, joints=17, experts=1):
    """A tiny ViTPose of random weights, as ``save_pretrained`` writes it."""
    torch.manual_seed(0)
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(H, W),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_experts=experts,
        part_features=4,
        out_indices=[2],
    )
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=joints)
    net = transformers.VitPoseForPoseEstimation(config).eval()
    net.save_pretrained(folder)
    return net


def crops(count=2):
    return torch.randint(0, 256, (count, 3, H, W), generator=torch.manual_seed(1)).byte()


@pytest.mark.parametrize("experts", [1, 3])
def test_poses_are_those_of_transformers_own_decoding(tmp_path, experts):
    """Of its peaks: its last step, DARK, moves them by less than a cell."""
    theirs = importlib.import_module("transformers.models.vitpose.image_processing_vitpose")
    model = vitpose(tmp_path / "vitpose", experts=experts)
    net = HuggingFaceNet(str(tmp_path / "vitpose"))

    pose = net.pose(crops())

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (crops() / 255 - mean[:, None, None]) / std[:, None, None]
    index = {} if experts == 1 else {"dataset_index": torch.zeros(2, dtype=torch.long)}
    with torch.no_grad():
        maps = model(pixel_values=pixels, **index).heatmaps.numpy()
    cells, scores = theirs.get_keypoint_predictions(maps)
    assert net.codec.input_size == (W, H)
    torch.testing.assert_close(pose.scores, torch.from_numpy(scores[..., 0]), atol=1e-5, rtol=0)
    for found, cell in zip(pose.joints, cells, strict=True):  # the crop as the image
        there = theirs.transform_preds(
            cell, torch.tensor([(W - 1) / 2, (H - 1) / 2]).numpy(),
            torch.tensor([W - 1, H - 1]).numpy() / 200, maps.shape[2:],
        )  # fmt: skip
        seen = cell[:, 0] >= 0  # without a positive value there is no joint
        away = (found - torch.from_numpy(there)).abs()[seen]
        assert away.max() < 0.25 * (W - 1) / (W / 4 - 1) + 1e-3
        assert seen.any()


def test_its_feature_is_the_last_hidden_map(tmp_path):
    model = vitpose(tmp_path / "v")
    net = HuggingFaceNet(str(tmp_path / "v"))
    pixels = (crops().float() - net.mean) / net.std
    with torch.no_grad():
        tokens = model.backbone(pixels).feature_maps[-1]
    expected = tokens.transpose(1, 2).reshape(2, 16, H // 16, W // 16)
    torch.testing.assert_close(net.feature(crops()), expected)


def test_its_own_normalisation_is_taken(tmp_path):
    vitpose(tmp_path / "v")
    said = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (tmp_path / "v" / "preprocessor_config.json").write_text(json.dumps(said))
    net = HuggingFaceNet(str(tmp_path / "v"))
    assert net.mean.flatten().tolist() == [127.5] * 3
    assert HuggingFaceNet(str(tmp_path / "v"), std=[1, 1, 1]).std.flatten().tolist() == [255] * 3


def test_the_hash_is_that_of_the_weights(tmp_path):
    vitpose(tmp_path / "one")
    vitpose(tmp_path / "two")
    one, two = (HuggingFaceNet(str(tmp_path / name)) for name in ("one", "two"))
    assert one.fingerprint() == two.fingerprint()
    with torch.no_grad():
        two.net.head.conv.bias += 1
    assert one.fingerprint() != two.fingerprint()


def test_wrong_models_are_refused_in_one_line(tmp_path):
    vitpose(tmp_path / "v", joints=14)
    with pytest.raises(ValueError, match=r"gives \(1, 14, 16, 12\).*17 joints of 'coco'"):
        HuggingFaceNet(str(tmp_path / "v"), COCO)
    HuggingFaceNet(str(tmp_path / "v"), CROWDPOSE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be read as a pose network") as refused:
        HuggingFaceNet(str(tmp_path / "empty"))
    assert "\n" not in str(refused.value)


def test_lacking_tensors_are_refused(tmp_path):
    safetensors = importlib.import_module("safetensors.torch")
    vitpose(tmp_path / "v")
    file = tmp_path / "v" / "model.safetensors"
    weights = safetensors.load_file(file)
    safetensors.save_file({k: v for k, v in weights.items() if "head" not in k}, file)
    with pytest.raises(ValueError, match="lacks 2 of the network's tensors"):
        HuggingFaceNet(str(tmp_path / "v"))


def test_without_transformers_it_says_what_to_install(tmp_path, monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "transformers":
            raise ImportError
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install 'kdpose\[huggingface\]'"):
        HuggingFaceNet(str(tmp_path))


def test_what_is_no_network_cannot_be_run():
    with pytest.raises(ValueError, match="not a network that can run here"):
        open_guest({"_target_": "kdpose.data.taught.StoredTeacher"})
