import logging

import pytest
from hydra import compose, initialize_config_dir

from kdpose.cli import CONF
from kdpose.training.pipeline import _stage_overrides
from kdpose.training.starts import begin


def composed(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize(
    ("overrides", "warns"),
    [
        (["+experiment=coco_stage1"], True),
        (["+experiment=crowdpose_stage1"], True),
        (["+experiment=coco_stage1", "backbone.pretrained=true"], False),
        (["+experiment=coco_stage1", "backbone.pretrained_file=F"], False),
        (["+experiment=coco_stage2"], False),
        (["+experiment=stage1"], False),  # synthetic crowds have nothing to do with ImageNet
    ],
)
def test_a_random_start_is_said(overrides, warns, caplog):
    with caplog.at_level(logging.WARNING):
        begin(composed(*overrides), None, None, None)
    assert ("starts from random values" in caplog.text) == warns


@pytest.mark.parametrize("recipe", ["full", "ablation"])
def test_teacher_and_student_have_a_start_each(recipe):
    cfg = composed(
        f"+experiment={recipe}", "teacher.pretrained_file=T", "student.pretrained_file=S"
    )
    ckpts = dict.fromkeys(cfg.pipeline.stages, "C")
    starts = {
        label: [o for o in _stage_overrides(cfg, stage, [], ckpts) if "pretrained_file" in o]
        for label, stage in cfg.pipeline.stages.items()
    }
    assert starts["teacher"] == ["backbone.pretrained_file='T'"]
    assert starts["baseline"] == starts["stage1"] == ["backbone.pretrained_file='S'"]
    assert starts["stage2"] == []
