"""A network answers once for each person, and its answers teach, score and predict alike."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.load import load_net
from kdpose.checkpoints.onnx_net import OnnxNet
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset, spread
from kdpose.data.taught import load_training
from kdpose.heads.heatmap import HeatmapHead
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.feature_mse import feature_mse
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import CROWDPOSE
from kdpose.skeletons.skeleton import Skeleton
from kdpose.training.asked_teacher import AskedTeacher, epoch_seconds, sure_score
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module

W, H = 48, 64
DOTS = Skeleton("dots", ("left_dot", "dot", "right_dot"), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))
PLACES = np.array([[60.0, 50.0], [90.0, 90.0], [120.0, 70.0]])  # image pixels


def places(number):
    """Where a photograph shows the dots."""
    return PLACES + np.array([0, 3 * number])


@pytest.fixture
def file(tmp_path):
    """A heatmap network that finds red, green and blue; the mirrored view exchanges red and blue.

    So it is no good with flips, which the tests that want exact places leave out.
    """
    nodes = [
        helper.make_node("MaxPool", ["image"], ["map"], kernel_shape=[4, 4], strides=[4, 4]),
    ]
    graph = helper.make_graph(
        nodes,
        "dots",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, H, W))],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "dots.onnx")
    return str(tmp_path / "dots.onnx")


@pytest.fixture
def part(tmp_path):
    """Two photographs, each of one person with a red, a green and a blue dot, boxes alone."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2):
        pixels = np.zeros((160, 200, 3), np.uint8)
        for channel, (x, y) in enumerate(places(number).astype(int)):
            pixels[y - 4 : y + 5, x - 4 : x + 5, channel] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 200, "height": 160} for n in (1, 2)],
        "categories": [{"id": 1, "name": "dots", "keypoints": list(DOTS.joints)}],
        "annotations": [
            {"id": 10 + n, "image_id": n, "bbox": [40, 30, 100, 90], "category_id": 1}
            for n in (1, 2)
        ],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return {"annotations": str(tmp_path / "boxes.json"), "images": str(folder)}


def teacher(file, folder):
    options = {"mean": [0, 0, 0], "std": [255, 255, 255], "threads": 1}
    return AskedTeacher(OnnxNet(file, DOTS, **options), folder, options)


def test_answers_are_in_image_pixels_and_teach_persons_without_labels(tmp_path, file, part):
    stored = teacher(file, tmp_path / "answers").ask([part], DOTS, num_workers=0)

    persons = load_training([part], DOTS, stored.files, stored.skeleton)

    assert persons.visible.sum() == 0
    assert persons.taught is not None
    for number, found in zip((1, 2), persons.taught, strict=True):
        assert abs(found[1] - (places(number)[1])).max() < 12  # a cell of the map
    results = json.loads(Path(stored.files[0]).read_text())
    assert [result["id"] for result in results] == [11, 12]
    assert results[0]["bbox"] == [40, 30, 99, 89]


def test_it_is_asked_once(tmp_path, file, part, monkeypatch):
    first = teacher(file, tmp_path / "answers").ask([part], DOTS, num_workers=0)
    monkeypatch.setattr("kdpose.training.asked_teacher.predict_poses", None)
    again = teacher(file, tmp_path / "answers").ask([part], DOTS, num_workers=0)
    assert again.files == first.files


@pytest.mark.parametrize("what", ["annotations", "options"])
def test_other_annotations_or_options_are_other_answers(tmp_path, file, part, what):
    first = teacher(file, tmp_path / "answers").ask([part], DOTS, num_workers=0)
    if what == "annotations":
        content = json.loads(Path(part["annotations"]).read_text())
        content["annotations"][0]["bbox"][0] += 1
        (tmp_path / "boxes.json").write_text(json.dumps(content))
        other = teacher(file, tmp_path / "answers")
    else:
        other = AskedTeacher(OnnxNet(file, DOTS, padding=1.5), tmp_path / "answers")
    assert other.ask([part], DOTS, num_workers=0).files != first.files


@pytest.mark.slow
def test_predicted_poses_are_a_file_that_teaches(tmp_path, file, part, kdpose_here):
    yaml = tmp_path / "dots.yaml"
    yaml.write_text("joints: [left_dot, dot, right_dot]\n")
    kdpose_here(
        "predict",
        "teacher=onnx",
        f"teacher.file={file}",
        "teacher.skeleton._target_=kdpose.skeletons.files.read_skeleton",
        f"teacher.skeleton.path={yaml}",
        f"source={part['annotations']}",
        f"images={part['images']}",
        f"boxes={part['annotations']}",
        f"out={tmp_path / 'out'}",
        "draw=false",
        "flip=false",
    )

    file = str(tmp_path / "out" / "predictions.json")
    persons = load_training([part], DOTS, [file], DOTS)

    assert persons.taught is not None
    for number, found in zip((1, 2), persons.taught, strict=True):
        assert abs(found - (places(number))).max() < 12


def network(head, codec):
    torch.manual_seed(0)
    return PoseNet(TimmPyramid("resnet10t", neck_channels=8), head, codec, CROWDPOSE).eval()


def pose_terms(teacher, data, monkeypatch):
    """What a student of always the same weights learns of Eq. 2 and 3."""
    losses = {"pos": LossTerm(pose_l1, 0.1), "cst": LossTerm(limb_length_l1, 0.1)}
    student = network(partial(SimCCHead, init="projection"), SimCC((W, H)))
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    module = DistillStage1Module(student, losses, optimizer, multi_step, teacher)
    student.eval()

    class Trainer:
        max_epochs = 1
        log_every_n_steps = 1

    monkeypatch.setattr(type(module), "trainer", Trainer())
    for name in ("log", "log_dict"):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    return module.training_step(data, 1)


def test_a_live_and_a_stored_teacher_teach_the_same(tmp_path, crowd, monkeypatch):
    part = {
        "annotations": str(crowd / "annotations/crowdpose_trainval.json"),
        "images": str(crowd / "images"),
    }
    net = network(HeatmapHead, Heatmap((W, H)))
    torch.nn.init.normal_(net.head.final_layer.weight, std=1)
    torch.nn.init.constant_(net.head.final_layer.bias, 50)  # sure of each joint
    stored = AskedTeacher(net, tmp_path, {"ckpt": "W48.pth"}).ask(
        [part], CROWDPOSE, flip=False, num_workers=0, device="cpu"
    )
    assert Path(stored.files[0]).name.startswith("W48-crowdpose_trainval-")
    taught = load_training([part], CROWDPOSE, stored.files, CROWDPOSE)
    labelled = load_persons(part["annotations"], CROWDPOSE, "annotations")

    from_file, live = (
        pose_terms(
            teacher, spread(PoseDataset(p, part["images"], CROWDPOSE, (W, H)), 8), monkeypatch
        )
        for teacher, p in ((stored, taught), (net, labelled))
    )
    assert live > 0.1
    torch.testing.assert_close(from_file, live, rtol=1e-5, atol=1e-5)


def test_spreads_are_stored_where_wished_and_turn_with_the_crop(tmp_path, file, part):
    options = {"mean": [0, 0, 0], "std": [255, 255, 255], "threads": 1}
    net = OnnxNet(file, DOTS, **options)
    plain, wide = (
        AskedTeacher(net, tmp_path / "answers", options, spread).ask(
            [part], DOTS, flip=False, num_workers=0
        )
        for spread in (False, True)
    )
    assert plain.files != wide.files
    assert load_training([part], DOTS, plain.files, DOTS).taught_spread is None

    persons = load_training([part], DOTS, wide.files, DOTS)

    found = persons.taught_spread
    assert found is not None
    # dots of 9 pixels in cells of 7.5: one cell or two, whose neighbour has all its weight
    assert ((found >= 0) & (found < 12)).all()
    assert found.max() > 4
    batch = spread(PoseDataset(persons, part["images"], DOTS, (W, H)), 2)
    np.testing.assert_allclose(
        batch.taught_spread, found * (W / batch.size[:, :1, None].numpy()), rtol=1e-5
    )
    mirrored = load_training([part, part], DOTS, [*wide.files, *plain.files], DOTS)
    assert mirrored.taught_spread is not None
    assert not mirrored.taught_spread[2:].any()


def test_a_network_of_joints_alone_has_no_spread_to_store(tmp_path):
    answer = np.zeros((1, len(DOTS), 3), np.float32)
    node = helper.make_node(
        "Constant", [], ["output_0"], value=helper.make_tensor("c", 1, answer.shape, answer)
    )
    graph = helper.make_graph(
        [node],
        "joints",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, H, W))],
        [helper.make_tensor_value_info("output_0", TensorProto.FLOAT, answer.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "joints.onnx")
    asked = AskedTeacher(OnnxNet(str(tmp_path / "joints.onnx"), DOTS), tmp_path, spread=True)
    with pytest.raises(ValueError, match="so that it has no spread"):
        asked.check_spread(SimCC((W, H), label="gaussian"))
    with pytest.raises(ValueError, match="the width of the student's targets"):
        asked.check_spread(SimCC((W, H)))


def test_scores_are_measured_by_what_a_sure_net_would_say():
    assert sure_score(network(HeatmapHead, Heatmap((W, H)))) == 1
    smooth, gaussian = (
        sure_score(network(SimCCHead, SimCC((W, H), label=label)))
        for label in ("smooth", "gaussian")
    )
    assert smooth == pytest.approx(0.9, abs=0.01)
    assert gaussian == pytest.approx(1 / (4 * (2 * np.pi) ** 0.5), abs=0.001)


def test_the_cost_of_an_epoch_is_measured(capsys):
    live, stored = epoch_seconds(network(HeatmapHead, Heatmap((W, H))), 1000, "cpu")
    assert 0 < stored < live


def test_eq_1_and_stored_answers_of_a_checkpoint_exclude_each_other(tiny_checkpoints):
    net = load_net(tiny_checkpoints["student"]).net
    teacher = AskedTeacher(net, "answers", {"ckpt": "W48.pth"})
    assert teacher.feature({"pos": LossTerm(pose_l1)}) is None
    with pytest.raises(ValueError, match=r"W48 teaches by stored poses: take teacher.cache=false"):
        teacher.feature({"fea": LossTerm(feature_mse)})
