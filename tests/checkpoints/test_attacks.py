"""What a stranger's file asks for is refused in one line that names it, and nothing happens."""

import copy
import json
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from kdpose.backbones.hrnet import HRNet
from kdpose.checkpoints.load import load_made_by_run, load_net, load_teacher
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.checkpoints.resume import check_resumable
from kdpose.checkpoints.tensors import start_from
from kdpose.predict import main as predict

pytestmark = pytest.mark.usefixtures("canary")
ENV = "${oc.env:KDPOSE_CANARY}"
BACKBONE = {
    "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
    "name": "resnet10t",
    "neck_channels": 8,
}
DEEP = [1]
for _ in range(50):
    DEEP = [DEEP]
WIDE = [1] * 300
LOOP = {}
LOOP["again"] = LOOP


def calls(target, /, **arguments):
    """A node that calls something, as Hydra would."""
    return {"_target_": target, **arguments}


FIXED = {  # attacks that do not name the canary
    "private": ("head", calls("kdpose.checkpoints.buildable._build", node={}, kind="net")),
    "dunder": ("head", calls("kdpose.pose_net.PoseNet.__init__.__globals__")),
    "walk": ("skeleton", calls("kdpose.skeletons.files.Path.unlink")),
    "other function": ("skeleton", calls("kdpose.skeletons.files.write_skeleton", path="x")),
    "loader": ("backbone", calls("kdpose.checkpoints.load.load_net", path="x")),
    "hydra": ("backbone", calls("hydra.utils.get_method", path="os.system")),
    "prefix": ("backbone", calls("kdpose.pose_net.PoseNetEvil")),
    "dots": ("backbone", calls("kdpose..backbones.hrnet.HRNet", name="hrnet_w32")),
    "space": ("backbone", calls("kdpose.backbones.hrnet.HRNet ", name="hrnet_w32")),
    "colon": ("backbone", calls("kdpose.backbones.hrnet:HRNet", name="hrnet_w32")),
    "kind": ("backbone", calls("kdpose.heads.simcc.SimCCHead", _partial_=True)),
    "net in net": ("head", calls("kdpose.pose_net.PoseNet")),
    "interpolated target": ("backbone", calls("${..head._target_}", name="resnet10t")),
    "target of the environment": ("backbone", calls(ENV)),
    "create": ("backbone", "${oc.create:{_target_:os.system,command:true}}"),
    "environment": ("backbone.name", ENV),
    "environment in a list": ("codec.input_size", [ENV, 64]),
    "environment as a label": ("codec.label", ENV),
    "environment as an argument": ("backbone.model_args", {"act_layer": ENV}),
    "joint's key": ("skeleton.values.${oc.env:HOME}", 1),
    "tuple": ("codec.input_size", (48, 64)),
    "ordered": ("codec", OrderedDict(calls("os.system"))),
    "tuple of calls": ("head", (calls("os.system", command="true"),)),
    "list of calls": ("head", [calls("os.system", command="true")]),
    "tensor": ("codec.split_ratio", torch.tensor(2.0)),
    "bytes": ("backbone.name", bytearray(b"resnet10t")),
    "set": ("codec.input_size", {48, 64}),
    "number as key": ("backbone", {1: 2}),
    "args": ("backbone._args_", ["resnet18"]),
    "recursive": ("backbone._recursive_", False),
    "convert": ("backbone._convert_", "object"),
    "mode": ("backbone._mode_", "x"),
    "partial backbone": ("backbone._partial_", True),
    "whole head": ("head._partial_", False),
    "partial as a call": ("head._partial_", calls("os.system", command="true")),
    "unknown key": ("head.hook", "os.system"),
    "given key": ("head.in_channels", 3),
    "call in skeleton": ("skeleton.values.name", calls("os.getenv", key="KDPOSE_CANARY")),
    "call in model_args": ("backbone.model_args", {"norm_layer": calls("os.system")}),
    "pretrained": ("backbone.pretrained", True),
    "pretrained word": ("backbone.pretrained", "yes"),
    "pretrained_file": ("backbone.pretrained_file", "/etc/passwd"),
    "hub name": ("backbone.name", "hf-hub:stranger/evil"),
    "hub name of old": ("backbone.name", "hf_hub:stranger/evil"),
    "path": ("backbone.name", "../../evil"),
    "unknown model": ("backbone.name", "no_such_model"),
    "configuration": ("backbone.model_args", {"pretrained_cfg": {"file": "/etc/passwd"}}),
    "overlay": ("backbone.model_args", {"pretrained_cfg_overlay": {"url": "http://x"}}),
    "weights of a path": ("backbone.model_args", {"checkpoint_path": "/etc/passwd"}),
    "cache": ("backbone.model_args", {"cache_dir": "x"}),
    "pretrained argument": ("backbone.model_args", {"pretrained": True}),
    "path as an argument": ("backbone.model_args", {"act_layer": "/etc/passwd"}),
    "infinite": ("codec.sigma", float("inf")),
    "nan": ("codec.split_ratio", float("nan")),
    "huge input": ("codec.input_size", [100_000, 100_000]),
    "huge head": ("codec", calls("kdpose.codecs.simcc.SimCC", input_size=[4096, 4096])),
    "huge neck": ("backbone.neck_channels", 10**12),
    "deep": ("codec.input_size", DEEP),
    "wide": ("codec.input_size", [WIDE] * 300),
    "loop": ("codec.input_size", LOOP),
    "joints of numbers": ("skeleton.values.joints", [1, 2]),
    "limbs out of range": ("skeleton.values.limbs", [[0, 99]]),
    "no backbone": ("backbone", None),
}


def attacks(canary):
    """What is put under a key of the description, by the attack's name."""
    hub = {"repo_or_dir": str(canary.parent), "source": "local", "model": "evil"}
    write = {"self": calls("pathlib.Path", _args_=[str(canary)]), "data": "x"}
    return FIXED | {
        "hub": ("backbone", calls("kdpose.checkpoints.torch.hub.load", **hub)),
        "hub of a module": ("backbone", calls("kdpose.checkpoints.load.torch.hub.load", **hub)),
        "hub of tensors": ("head", calls("kdpose.checkpoints.tensors.torch.hub.load", **hub)),
        "write_text": ("backbone", calls("kdpose.cli.Path.write_text", **write)),
        "os of a module": ("backbone", calls("kdpose.cli.os.system", command=f"touch {canary}")),
        "os": ("head", calls("os.system", command=f"touch {canary}")),
        "eval": ("codec", calls("builtins.eval", _args_=[f"open({str(canary)!r}, 'w')"])),
        "subprocess": ("codec", calls("subprocess.run", args=["touch", str(canary)])),
        "nested call": ("codec.sigma", calls("os.system", command=f"touch {canary}")),
        "local folder": ("backbone.name", f"local-dir:{canary.parent}"),
    }


def set_key(description, key, value):
    *path, last = key.split(".", 2 if key.startswith("skeleton") else -1)
    for name in path:
        description = description[name]
    description[last] = value


def evil_file(path, tiny_student, key, value):
    description = copy.deepcopy(tiny_student)
    set_key(description, key, value)
    content = {"kdpose": {"net": description, "dataset": {}}, "state_dict": {}}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", attacks(Path("/x/y")))
def test_descriptions(name, canary, tmp_path, tiny_student, refused):
    key, value = attacks(canary)[name]
    path = evil_file(tmp_path / "evil.ckpt", tiny_student, key, value)
    line = refused(path, load_net, path)
    assert "does not fit its description" not in line  # refused before anything was built


READERS = {
    "ckpt": load_net,
    "teacher.ckpt": load_teacher,
    "stage1_ckpt": lambda path: load_made_by_run(path, "stage1_ckpt"),
    "resume": check_resumable,
    "start": lambda path: start_from(torch.nn.Linear(1, 1), str(path)),
    "pretrained_file": lambda path: build_backbone(
        OmegaConf.create({**BACKBONE, "pretrained_file": str(path)})
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["torch", "bare", "safetensors", "legacy"])
def test_pickles_and_rubbish(reader, kind, canary, tmp_path, refused, touch):
    path = tmp_path / ("evil.safetensors" if kind == "safetensors" else "evil.ckpt")
    content = {"state_dict": {"a": torch.zeros(1)}, "x": touch(canary)}
    if kind == "torch":
        torch.save(content, path)
    elif kind == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif kind == "bare":
        path.write_bytes(pickle.dumps(touch(canary)))
    else:
        path.write_bytes(b"\xff" * 64)
    refused(path, READERS[reader], path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"kdpose": 3, "state_dict": {}}, "'kdpose' must be a dict"),
        (
            {"kdpose": {"net": {}, "dataset": 3}, "state_dict": {}},
            "'kdpose.dataset' must be a dict",
        ),
        ({"kdpose": {"dataset": {}}, "state_dict": {}}, "'kdpose.net' must be a dict"),
        ({"kdpose": {"net": {}, "dataset": {}}}, "'state_dict' must be a dict"),
        ({"kdpose": {"net": {}, "dataset": {"a": (1,)}}, "state_dict": {}}, "dataset.a is a tuple"),
    ],
)
def test_other_contents(content, told, tmp_path, refused):
    torch.save(content, tmp_path / "evil.ckpt")
    assert told in refused(tmp_path / "evil.ckpt", load_net, tmp_path / "evil.ckpt")


def test_weights_of_other_shapes(tmp_path, tiny_checkpoints, refused):
    content = torch.load(tiny_checkpoints["student"], weights_only=True)
    for value in (torch.zeros(3, 3), "text"):
        content["state_dict"]["net.head.mlp_head_x.weight"] = value
        torch.save(content, tmp_path / "evil.ckpt")
        line = refused(tmp_path / "evil.ckpt", load_net, tmp_path / "evil.ckpt")
        assert "head.mlp_head_x.weight is" in line


def test_joint_names_mean_nothing(tmp_path, tiny_checkpoints):
    content = torch.load(tiny_checkpoints["student"], weights_only=True)
    content["kdpose"]["net"]["skeleton"]["values"]["joints"][-1] = ENV
    torch.save(content, tmp_path / "odd.ckpt")
    assert load_net(tmp_path / "odd.ckpt").net.skeleton.joints[-1] == ENV


def test_joint_names_of_an_annotation_file_mean_nothing(tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"categories": [{"name": "x", "keypoints": [ENV, "${a}"]}]}))
    weights = {"final_layer.weight": torch.zeros(2, 16, 1, 1), "final_layer.bias": torch.zeros(2)}
    weights |= HRNet("hrnet_w18_small").body.state_dict()
    torch.save(weights, tmp_path / "pose.pth")
    loaded = load_net(tmp_path / "pose.pth", skeleton=str(names))
    assert loaded.net.skeleton.joints == (ENV, "${a}")


@pytest.mark.parametrize("name", ["s3://bucket/x", "runs/x/../../y.ckpt"])
@pytest.mark.parametrize("place", ["kth_best_model_path", "best_k_models", "last_model_path"])
def test_a_resumed_run_deletes_nothing_elsewhere(tmp_path, name, place, refused):
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
    state = {place: {name: torch.tensor(1.0)} if place == "best_k_models" else name}
    content = {key: {} for key in keys} | {"callbacks": {"ModelCheckpoint": state}}
    torch.save(content, tmp_path / "evil.ckpt")
    line = refused(tmp_path / "evil.ckpt", check_resumable, tmp_path / "evil.ckpt")
    assert "names a file outside its run's folder" in line
    content["callbacks"] = {"ModelCheckpoint": {place: "/runs/x/best.ckpt"}}
    torch.save(content, tmp_path / "good.ckpt")
    check_resumable(tmp_path / "good.ckpt")


def test_what_no_training_wrote_is_not_resumed(tmp_path, refused):
    torch.save({"state_dict": {}}, tmp_path / "evil.ckpt")
    line = refused(tmp_path / "evil.ckpt", check_resumable, tmp_path / "evil.ckpt")
    assert "holds no optimizer_states" in line


@pytest.mark.parametrize(
    "name", ["hub", "write_text", "os of a module", "create", "environment", "local folder"]
)
def test_the_command_line(name, canary, tmp_path, tiny_student, monkeypatch, capfd):
    key, value = attacks(canary)[name]
    path = evil_file(tmp_path / "evil.ckpt", tiny_student, key, value)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    words = [f"ckpt={path}", f"source={tmp_path}/photo.jpg", f"out={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["kdpose.predict", *words])
    with pytest.raises(SystemExit) as ended:
        predict()
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(path) in said
    assert os.environ["KDPOSE_CANARY"] not in said
