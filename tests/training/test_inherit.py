"""A student that starts with its teacher's weights."""

import logging
from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kdpose.pose_net import RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.training.starts import start_from_teacher


def asks(inherit):
    return OmegaConf.create({"teacher": {"inherit": inherit}})


def test_a_student_starts_with_what_its_teacher_has_of_its_shape(caplog, recipe, build):
    teacher = build(CROWDPOSE)
    narrow = recipe(CROWDPOSE)
    narrow["backbone"]["model_args"]["channels"] = [16, 24, 32, 40]
    torch.manual_seed(2)
    student = instantiate(narrow, _convert_="all")
    before = {name: value.clone() for name, value in student.state_dict().items()}
    start_from_teacher(asks(False), student, teacher)
    assert all(value.equal(before[name]) for name, value in student.state_dict().items())
    with caplog.at_level(logging.INFO, "kdpose.checkpoints.tensors"):
        start_from_teacher(asks(True), student, teacher)
    for name, value in student.state_dict().items():
        own = value.shape != teacher.state_dict()[name].shape
        assert own == ("layer4" in name or "inner_blocks.3.0" in name) or value.ndim == 0
        assert value.equal(before[name] if own else teacher.state_dict()[name])
    value = next(student.parameters())
    assert value.data_ptr() != next(teacher.parameters()).data_ptr()  # a copy, which is trained
    assert "teacher.inherit: " in caplog.text


def test_a_new_head_on_the_teachers_backbone(build):
    teacher, student = build(CROWDPOSE), build(CROWDPOSE)
    torch.nn.init.zeros_(student.head.mlp_head_x.weight)
    torch.nn.init.zeros_(next(student.backbone.parameters()))
    start_from_teacher(asks("backbone"), student, teacher)
    assert not student.head.mlp_head_x.weight.any()
    ours, its = student.backbone.state_dict(), teacher.backbone.state_dict()
    assert all(ours[name].equal(its[name]) for name in its)


def test_a_student_of_other_joints_inherits_the_backbone_alone(build):
    teacher, student = build(COCO), build(CROWDPOSE)
    torch.nn.init.zeros_(student.head.mlp_head_x.weight)
    start_from_teacher(asks(True), student, teacher)
    assert not student.head.mlp_head_x.weight.any()
    ours, its = student.backbone.state_dict(), teacher.backbone.state_dict()
    assert all(ours[name].equal(its[name]) for name in its)


def test_what_cannot_be_inherited(body, recipe, build):
    refined = RefinedPoseNet(build(CROWDPOSE), partial(IGPGCN, hidden=8, widths=(8, 8, 8)))
    with pytest.raises(ValueError, match="stage 2's student is stage1_ckpt's, and frozen"):
        start_from_teacher(asks(True), refined, build(CROWDPOSE))
    other = recipe(CROWDPOSE)
    other["backbone"] = {"_target_": "kdpose.backbones.hrnet.HRNet", "name": "hrnet_w18_small"}
    other["skeleton"]["values"] = body.to_dict()
    with pytest.raises(ValueError, match=r"teacher.inherit: none of the network's \d+ tensors"):
        start_from_teacher(asks(True), instantiate(other, _convert_="all"), build(CROWDPOSE))
