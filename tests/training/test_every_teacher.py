"""Every kind of teacher, as its file, teaches a student two steps by ``kdpose train``."""

import csv
import json
import sys
from functools import partial

import onnx
import pytest
import torch
from torch import nn
from torchvision.models import get_model

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.onnx_net import OnnxNet
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.data.dataset import PoseDataset
from kdpose.data.taught import StoredTeacher, load_training
from kdpose.data.transforms import Augmentation
from kdpose.deploy.graph import export_program, to_onnx
from kdpose.heads.heatmap import HeatmapHead
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet
from kdpose.predict import main as predict
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.train import main
from kdpose.training.asked_teacher import AskedTeacher
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module

W, H, K = 48, 64, 17


class Net(nn.Module):
    """A small real network of kdpose, whose outputs a subclass gives in another project's form."""

    def __init__(self, head, codec):
        super().__init__()
        torch.manual_seed(0)
        self.net = PoseNet(TimmPyramid("resnet10t", neck_channels=8), head, codec, COCO).eval()


class RTMPose(Net):
    outputs = ("simcc_x", "simcc_y")

    def __init__(self):
        super().__init__(SimCCHead, SimCC((W, H)))

    def forward(self, image):
        return tuple(scores.softmax(-1) for scores in self.net(image * 58 + 114).logits)


class HeatmapNet(Net):
    outputs = ("heatmaps",)

    def __init__(self):
        super().__init__(HeatmapHead, Heatmap((W, H)))

    def forward(self, image):
        return self.net(image * 58 + 114).logits + 0.5


class MoveNet(Net):
    outputs = ("output_0",)

    def __init__(self):
        super().__init__(SimCCHead, SimCC((W, H)))

    def forward(self, image):
        pose = self.net.codec.expectation(self.net(image.permute(0, 3, 1, 2)).logits)
        places = (pose.flip(-1) + 0.5) / torch.tensor([H, W])
        return torch.cat([places, torch.full_like(places[..., :1], 0.8)], -1)[:, None]


class YoloPose(MoveNet):
    outputs = ("output0",)

    def forward(self, image):
        pose = self.net.codec.expectation(self.net(image * 255).logits)
        points = torch.cat([pose, torch.full_like(pose[..., :1], 0.8)], -1).flatten(1)
        box = torch.tensor([[W / 2, H / 2, W / 1.25, H / 1.25, 0.9]]).expand(len(pose), -1)
        best = torch.cat([box, points], -1)
        return torch.stack([best * 0.5, best, best * 0.1], -1)  # (B, 5 + 3 K, N)


def exported(net, folder, shape=(1, 3, H, W), dtype=torch.float32):
    """The network as an ONNX file."""
    folder.mkdir(exist_ok=True)
    made = torch.onnx.export(
        net.eval(), (torch.zeros(shape, dtype=dtype),), dynamo=True, verbose=False,
        input_names=["input"], output_names=list(net.outputs),
    )  # fmt: skip
    path = folder / f"{type(net).__name__}.onnx"
    onnx.save(made.model_proto, path)
    return f"teacher.file={path}"


def joints(folder):
    folder.mkdir(exist_ok=True)
    model, _ = to_onnx(export_program(RTMPose().net))
    onnx.save(model, folder / "kdpose.onnx")
    return f"teacher.file={folder / 'kdpose.onnx'}"


def vitpose(folder):
    transformers = pytest.importorskip("transformers", reason="the extra kdpose[huggingface]")
    torch.manual_seed(0)
    backbone = transformers.VitPoseBackboneConfig(
        image_size=(H, W), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        out_indices=[1],
    )  # fmt: skip
    net = transformers.VitPoseForPoseEstimation(
        transformers.VitPoseConfig(backbone_config=backbone, num_labels=K)
    )
    nn.init.constant_(net.head.conv.bias, 0.5)
    net.save_pretrained(folder)
    return net


class ExportedVitPose(nn.Module):
    outputs = ("heatmaps",)

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(pixel_values=image).heatmaps


def keypoint_rcnn(folder):
    folder.mkdir()
    net = get_model("keypointrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    nn.init.normal_(net.roi_heads.keypoint_predictor.kps_score_lowres.weight, std=1)  # sure of it
    torch.save(net.state_dict(), f"{folder}/rcnn.pth")
    size = f"teacher.input_size=[{W},{H}]"
    return ["teacher=keypoint_rcnn", f"teacher.file={folder}/rcnn.pth", size]


TEACHERS = {
    "simcc": lambda folder: ["teacher=onnx", exported(RTMPose(), folder), "teacher.sure=0.01"],
    "heatmap": lambda folder: ["teacher=onnx", exported(HeatmapNet(), folder)],
    "keypoints": lambda folder: [
        "teacher=onnx",
        exported(MoveNet(), folder, (1, H, W, 3), torch.int32),
    ],
    "detections": lambda folder: ["teacher=onnx", exported(YoloPose(), folder)],
    "joints": lambda folder: ["teacher=onnx", joints(folder), "teacher.sure=0.01"],
    "vitpose": lambda folder: ["teacher=onnx", exported(ExportedVitPose(vitpose(folder)), folder)],
    "huggingface": lambda folder: [
        "teacher=huggingface",
        f"teacher.model={folder}" if vitpose(folder) else "",
    ],
    "keypoint_rcnn": keypoint_rcnn,
}


def train(monkeypatch, crowd, runs, *words):
    """Train two steps; what the run's folder holds."""
    command = [
        "kdpose.train", "+experiment=stage1", "dataset=synthetic", "name=taught",
        f"data_dir={crowd.parent}", f"dataset.root={crowd}", f"runs={runs}",
        "backbone=mobilenetv4_tiny", "head.init=projection", "codec.input_size=[48,64]",
        "data.batch_size=4", "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=1",
        "trainer.limit_train_batches=2", "callbacks.pictures.persons=2", "teacher.force=true",
        "teacher.check_persons=4", "loss=[simcc_kl,simcc_teacher,pose_l1,limb_length]",
        *words,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    main()
    return runs / "taught"


@pytest.mark.parametrize("kind", TEACHERS)
@pytest.mark.slow
def test_it_teaches_two_steps(kind, crowd, tmp_path, monkeypatch, capsys):
    words = TEACHERS[kind](tmp_path / "teacher")
    run = train(monkeypatch, crowd, tmp_path / "runs", *words)

    said = " ".join(capsys.readouterr().out.split())
    assert json.loads((run / "metrics.json").read_text())["training"]["epochs"] == 1
    assert "persons costs" in said
    figures = json.loads((run / "teacher.json").read_text())
    assert figures["of"]["fingerprint"]
    (answers,) = (tmp_path / "runs" / "answers").glob("*.json")
    taught = json.loads(answers.read_text())
    assert len(taught[0]["keypoints"]) == 3 * K
    assert max(taught[0]["keypoints"][2::3]) > 0.2


@pytest.mark.slow
def test_both_stages_learn_from_a_network_that_is_no_checkpoint(crowd, tmp_path, monkeypatch):
    file = exported(HeatmapNet(), tmp_path / "teacher")
    command = [
        "kdpose.train", "+experiment=full", "dataset=synthetic", "teacher=onnx", file,
        f"data_dir={crowd.parent}", f"dataset.root={crowd}", f"runs={tmp_path}",
        "backbone=mobilenetv4_tiny", "head.init=projection", "codec.input_size=[48,64]",
        "data.batch_size=4", "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=1",
        "trainer.limit_train_batches=2", "callbacks.pictures.persons=2", "teacher.force=true",
        "teacher.check_persons=4", 'pipeline.stages.stage2.overrides=["refiner.hidden=8"]',
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    main()
    table = (tmp_path / "synthetic_full" / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["teacher", "stage1", "stage2"]
    assert len(list((tmp_path / "answers").glob("*.json"))) == 1  # asked once for both


def loss_of(part, files, step):
    """What all terms say of a student of always the same weights, on augmented crops."""
    persons = load_training([part], CROWDPOSE, files, COCO)
    data = PoseDataset(
        persons, part["images"], CROWDPOSE, (W, H), augmentation=Augmentation(), seed=1
    )
    losses = {
        "kl": LossTerm(simcc_kl),
        "logit": LossTerm(simcc_kl, rename={"target": "teacher_target"}),
        "pos": LossTerm(pose_l1, 0.1),
        "cst": LossTerm(limb_length_l1, 0.1),
    }
    torch.manual_seed(0)
    backbone, codec = TimmPyramid("resnet10t", neck_channels=8), SimCC((W, H), label="gaussian")
    student = PoseNet(backbone, SimCCHead, codec, CROWDPOSE)
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    stored = StoredTeacher(files, COCO)
    module = DistillStage1Module(student, losses, optimizer, multi_step, stored)
    return step(module, data.__getitems__([(0, row) for row in range(len(data))]))[0]


@pytest.mark.slow
def test_answers_and_a_file_of_the_same_poses_teach_the_same(
    crowd, splits, tmp_path, monkeypatch, step
):
    part = splits(crowd)["train"]
    net = HeatmapNet()
    nn.init.normal_(net.net.head.final_layer.weight, std=1)
    file = exported(net, tmp_path / "teacher")
    teacher = AskedTeacher(OnnxNet(file.partition("=")[2]), tmp_path / "answers")
    answers = teacher.ask([part], CROWDPOSE, num_workers=0, device="cpu")

    command = [
        "kdpose.predict", "teacher=onnx", file, f"source={part['annotations']}",
        f"images={part['images']}", f"boxes={part['annotations']}", f"out={tmp_path}/out",
        "draw=false", "flip=true", "device=cpu",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    predict()

    one, other = (
        loss_of(part, files, step)
        for files in (answers.files, [str(tmp_path / "out/predictions.json")])
    )
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_scores_too_low_to_teach_are_refused(crowd, tmp_path, monkeypatch, capsys):
    words = ["teacher=onnx", exported(RTMPose(), tmp_path / "teacher"), "teacher.check=false"]
    with pytest.raises(SystemExit):
        train(monkeypatch, crowd, tmp_path / "runs", *words)
    (line,) = capsys.readouterr().err.splitlines()
    assert "teacher RTMPose gives 0.0 % of the joints a score of 0.2" in line
    assert "set teacher.sure" in line


@pytest.mark.slow
def test_a_checkpoint_teaches_by_stored_answers(crowd, tmp_path, tiny_checkpoints, monkeypatch):
    words = [f"teacher.ckpt={tiny_checkpoints['student']}", "teacher.cache=true"]
    train(monkeypatch, crowd, tmp_path, *words, "teacher.spread=true", "codec=simcc_gaussian")
    (file,) = (tmp_path / "answers").glob("student-*.json")
    assert all(max(answer["spread"]) > 0 for answer in json.loads(file.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heatmap", "huggingface", "keypoint_rcnn"])
def test_eq_1_compares_the_teachers_own_maps(kind, crowd, tmp_path, monkeypatch):
    words = TEACHERS[kind](tmp_path / "teacher")
    if kind == "heatmap":
        net = OnnxNet(words[1].partition("=")[2])
        words.append(f"teacher.feature={net.feature_maps()[-1].split()[0]}")
    run = train(monkeypatch, crowd, tmp_path / "runs", *words, "loss=[simcc_kl,feature_mse]")
    columns, *rows = csv.reader(next(run.glob("csv/*/metrics.csv")).open())
    losses = [row[columns.index("train/loss_fea")] for row in rows]
    assert any(float(loss) > 0 for loss in losses if loss)


@pytest.mark.slow
def test_eq_1_is_refused_before_the_teacher_is_asked(crowd, tmp_path, monkeypatch, capsys):
    words = ["teacher=onnx", exported(HeatmapNet(), tmp_path / "teacher"), "loss=[feature_mse]"]
    with pytest.raises(SystemExit):
        train(monkeypatch, crowd, tmp_path / "runs", *words)
    (line,) = capsys.readouterr().err.splitlines()
    assert "teacher HeatmapNet teaches by stored poses" in line
    assert "(1, 8, 16, 12)" in line  # the map that its head reads
    assert not (tmp_path / "runs" / "answers").exists()
