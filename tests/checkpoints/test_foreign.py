"""State dicts laid out as each project lays them out, around timm's HRNet as the reference."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from kdpose.backbones.hrnet import HRNet
from kdpose.checkpoints.foreign import looks_like, recipe, recognise
from kdpose.checkpoints.load import load_net, load_teacher
from kdpose.checkpoints.tensors import tensors
from kdpose.heads.simcc import SimCCHead
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE = (64, 96)
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
CLASSIFIER = re.compile(r"incre_modules|downsamp_modules|final_layer|classifier")
UNTRAINED = re.compile(r"stage4\.2\.fuse_layers\.[123]\.")


@pytest.fixture(scope="module", params=[32, pytest.param(48, marks=pytest.mark.slow)])
def hrnet(request):
    """An ImageNet classifier, its stride-4 map, and heads of both kinds for that map."""
    width, (w, h) = request.param, SIZE
    torch.manual_seed(width)
    classifier = timm.create_model(f"hrnet_w{width}")
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.7, 1.5)
    imagenet = classifier.state_dict()
    raw = timm.create_model(
        f"hrnet_w{width}", features_only=True, feature_location="", out_indices=(1,)
    )
    raw.load_state_dict({k: v for k, v in imagenet.items() if not CLASSIFIER.match(k)})
    maps = nn.Conv2d(width, 17, 1)
    nn.init.normal_(maps.weight, std=0.3)
    x, y = nn.Linear(w * h // 16, 2 * w), nn.Linear(w * h // 16, 2 * h)
    heatmap = {f"final_layer.{k}": v for k, v in maps.state_dict().items()}
    simcc = {f"mlp_head_x.{k}": v for k, v in x.state_dict().items()}
    simcc |= {f"mlp_head_y.{k}": v for k, v in y.state_dict().items()} | heatmap

    @torch.no_grad()
    def outputs(image):
        feature = raw.eval()((image - MEAN) / STD)[0]
        flat = maps(feature).flatten(2)
        return maps(feature), x(flat), y(flat)

    fused = {k: v for k, v in imagenet.items() if not CLASSIFIER.match(k)}
    backbone = {k: v for k, v in fused.items() if not UNTRAINED.match(k)}
    assert len([k for k in fused if UNTRAINED.match(k) and "tracked" not in k]) == 65
    return SimpleNamespace(
        width=width,
        imagenet=imagenet,
        fused=fused,
        backbone=backbone,
        heads={"SimCC": simcc, "heatmap": heatmap},
        outputs=outputs,
    )


def prefixed(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


def official(net, head):
    return {**net.backbone, **head}


def official_resumable(net, head):
    """checkpoint.pth of the official training: DataParallel's names, a NumPy scalar, a name."""
    weights = prefixed("module.", official(net, head))
    return {"epoch": 210, "model": "pose_hrnet", "perf": np.float64(0.759), "state_dict": weights}


def compiled(net, head):
    return {"state_dict": prefixed("module._orig_mod.", official(net, head))}


def mmpose_0(net, head):
    weights = prefixed("backbone.", net.backbone) | prefixed("keypoint_head.", head)
    return {"meta": {"epoch": 210}, "state_dict": weights}


def mmpose_1(net, head):
    """With all four outputs fused (stage4.multiscale_output) and the preprocessor's buffers."""
    weights = prefixed("backbone.", net.fused) | prefixed("head.", head)
    return {"state_dict": weights | {"data_preprocessor.mean": MEAN, "data_preprocessor.std": STD}}


LAYOUTS = {
    official: "official",
    official_resumable: "official",
    compiled: "official",
    mmpose_0: "mmpose 0.x",
    mmpose_1: "mmpose 1.x",
}


@pytest.mark.parametrize("kind", ["SimCC", "heatmap"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts_of_pose_networks(hrnet, layout, kind):
    file = recognise(tensors(layout(hrnet, hrnet.heads[kind]), "x.pth"))
    assert str(file) == f"{LAYOUTS[layout]} HRNet-W{hrnet.width} with {kind} head"
    assert file.backbone.keys() == hrnet.backbone.keys()
    assert all(file.backbone[name] is value for name, value in hrnet.backbone.items())
    assert file.head == hrnet.heads[kind]
    with torch.device("meta"):
        wanted = HRNet(file.timm_name).body.state_dict()
    shapes = {name: value.shape for name, value in file.backbone.items()}
    assert shapes == {name: value.shape for name, value in wanted.items()}


@pytest.mark.parametrize("layout", ["imagenet", "fused"])
def test_layouts_without_a_pose_head(hrnet, layout):
    file = recognise(getattr(hrnet, layout))
    assert file.backbone.keys() == hrnet.backbone.keys()
    assert file.head == {}
    name = {"imagenet": "ImageNet", "fused": "bare"}[layout]
    with pytest.raises(ValueError, match=rf"^x looks like {name} HRNet-W\d\d: it has no pose head"):
        recipe(file, "x", "", None, SIZE, "smooth")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.slow
def test_outputs_survive_the_round_trip(hrnet, layout, tmp_path, caplog):
    path = tmp_path / "pose.pth"
    image = torch.randint(0, 256, (2, 3, SIZE[1], SIZE[0]), dtype=torch.uint8)
    maps, x, y = hrnet.outputs(image)
    for kind, wanted in (("SimCC", (x, y)), ("heatmap", (maps,))):
        torch.save(layout(hrnet, hrnet.heads[kind]), path)
        caplog.clear()
        with caplog.at_level("INFO"):
            teacher = load_teacher(str(path), input_size=SIZE)
        total = 1462 if kind == "heatmap" else 1466
        assert caplog.messages == [
            f"teacher.ckpt: {LAYOUTS[layout]} HRNet-W{hrnet.width} with {kind} head, "
            f"17 joints (coco), 64x96: {total} of {total} tensors (100 %)"
        ]
        with torch.no_grad():
            scores = teacher.logits(image)
        for mine, theirs in zip((scores,) if kind == "heatmap" else scores, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3 * theirs.std().item())
        assert teacher.codec.input_size == SIZE
        assert teacher.skeleton == COCO
    path.unlink()


def small(kind="SimCC", joints=17, bins=(128, 192), cells=384):
    """An official file of timm's smallest HRNet."""
    with torch.device("meta"):
        weights = HRNet("hrnet_w18_small").body.state_dict()
    weights = {name: torch.zeros(value.shape) for name, value in weights.items()}
    weights |= {"final_layer.weight": torch.zeros(joints, 16, 1, 1)}
    weights |= {"final_layer.bias": torch.zeros(joints)}
    for axis, count in zip("xy", bins, strict=True):
        if kind == "SimCC":
            weights[f"mlp_head_{axis}.weight"] = torch.zeros(count, cells)
            weights[f"mlp_head_{axis}.bias"] = torch.zeros(count)
    return weights


@pytest.mark.parametrize(
    ("bins", "cells", "size", "ratio"),
    [
        ((384, 512), 3072, [192, 256], 2.0),
        ((432, 576), 6912, [288, 384], 1.5),
        ((512, 512), 4096, [256, 256], 2.0),
        ((192, 192), 256, [64, 64], 3.0),
    ],
)
def test_shapes_tell_input_size_and_split_ratio(bins, cells, size, ratio):
    codec = recipe(recognise(small(bins=bins, cells=cells)), "x", "", None, SIZE, "gaussian")[
        "codec"
    ]
    assert codec["input_size"] == size
    assert codec["split_ratio"] == ratio
    assert codec["label"] == "gaussian"


def test_a_projects_habit_tells_the_labels():
    habits = {}
    for prefix in ("", "backbone."):
        head = "head." if prefix else ""
        file = recognise(
            {(head if re.match("final|mlp", k) else prefix) + k: v for k, v in small().items()}
        )
        habits[file.project] = recipe(file, "x", "", None, SIZE, None)["codec"]["label"]
    assert habits == {"official": "smooth", "mmpose 1.x": "gaussian"}


def test_bins_that_fit_no_input():
    with pytest.raises(
        ValueError, match="its 384 and 512 bins on 1000 and 1000 cells fit no input"
    ):
        recipe(recognise(small(bins=(384, 512), cells=1000)), "x", "", None, SIZE, "smooth")


@pytest.mark.parametrize(
    "name", ["hrnet_w18_small", "hrnet_w18_small_v2", "hrnet_w18", "hrnet_w64"]
)
def test_widths(name):
    with torch.device("meta"):
        assert recognise(timm.create_model(name).state_dict()).timm_name == name


def test_the_skeleton_is_asked_for_where_joints_do_not_tell_it(tmp_path):
    path = tmp_path / "pose.pth"
    torch.save(small("heatmap", joints=14), path)
    assert load_net(path).net.skeleton == CROWDPOSE
    torch.save(small("heatmap", joints=2), path)
    with pytest.raises(
        ValueError, match=r"has 2 joints, .* by teacher\.skeleton=ANNOTATIONS\.json"
    ):
        load_teacher(str(path))
    names = tmp_path / "hands.json"
    names.write_text('{"categories": [{"name": "hand", "keypoints": ["wrist", "thumb"]}]}')
    assert load_teacher(str(path), skeleton=str(names)).skeleton.joints == ("wrist", "thumb")
    torch.save(small("heatmap"), path)
    with pytest.raises(
        ValueError, match=r"has 17 joints and teacher\.skeleton=.*hands\.json has 2"
    ):
        load_teacher(str(path), skeleton=str(names))


def test_input_size_of_heatmaps(tmp_path):
    torch.save(small("heatmap"), tmp_path / "pose.pth")
    with pytest.raises(ValueError, match=r"teacher\.input_size must be two multiples of 32 px"):
        load_teacher(str(tmp_path / "pose.pth"), input_size=[200, 256])


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"deconv_layers.0.0.0.weight": 0}, r"its head \(.*deconv_layers.*\) is neither SimCC's"),
        ({"final_layer.weight": 3}, r"its final_layer is \(17, 16, 3, 3\) where a 1x1"),
    ],
)
def test_other_heads_are_refused(extra, told):
    weights = small("heatmap")
    for name, size in extra.items():
        weights[name] = torch.zeros(17, 16, size, size)
    with pytest.raises(ValueError, match=told):
        recipe(recognise(weights), "x", "", None, SIZE, "smooth")


@pytest.mark.parametrize(
    ("name", "prefix", "told"),
    [
        ("vit_tiny_patch16_224", "backbone.", r"a ViT \(ViTPose\), by blocks\.0\.attn"),
        ("resnet18", "module.backbone.", r"a ResNet, by layer4\.0\.conv1\.weight"),
        ("mobilenetv4_conv_small_050", "", r"a MobileNet or EfficientNet of timm, by conv_stem"),
    ],
)
def test_other_networks_are_named(tmp_path, name, prefix, told):
    path = tmp_path / "other.pth"
    torch.save(prefixed(prefix, timm.create_model(name).state_dict()), path)
    wanted = rf"^{path} \(from teacher\.ckpt\) looks like {told}.*: matched \d % of the network's"
    with pytest.raises(ValueError, match=wanted.replace("by ", r"by (?:backbone\.)?")):
        load_teacher(str(path))


def test_unknown_names():
    assert looks_like({"a.weight": torch.zeros(1)}) == "nothing known, with a.weight"


def test_a_network_with_holes_is_refused_below_the_floor(tmp_path, caplog):
    path = tmp_path / "pose.pth"
    weights = small()
    weights.pop("bn1.bias")
    torch.save(weights, path)
    load_net(path)
    assert "left at random: backbone.body.bn1.bias" in caplog.text
    weights = {k: v for k, v in weights.items() if not k.startswith("stage3.")}
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"looks like official HRNet-W16 .*: matched 67 % of"):
        load_net(path)


def test_an_own_head_is_laid_out_as_the_official_one():
    head = SimCCHead(16, 17, (16, 24), (128, 192))
    assert recognise(small()).head.keys() == head.state_dict().keys()
