import importlib

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kdpose.cli import CONF
from kdpose.runtime.moved import present_name, renamed
from kdpose.runtime.recipes import replacement, words_for
from kdpose.training.run_folder import changes

OF_OLD = (
    "kdpose.callbacks.PosePictures",
    "kdpose.callbacks.ProgressBar",
    "kdpose.checkpoints.load_teacher",
    "kdpose.dashboards.wandb_logger",
    "kdpose.data.synthetic.generate",
    "kdpose.keypoints.COCO",
    "kdpose.keypoints.CROWDPOSE",
    "kdpose.keypoints.Skeleton",
    "kdpose.modules.distill.DistillStage1Module",
    "kdpose.modules.refine.RefineStage2Module",
    "kdpose.modules.schedules.multi_step",
    "kdpose.modules.schedules.warmup_cosine",
    "kdpose.modules.synced_norms.SyncedNorms",
    "kdpose.skeleton_files.read_skeleton",
    "kdpose.losses.terms.LossTerm",
)


@pytest.mark.parametrize("name", OF_OLD)
def test_an_earlier_name_leads_to_what_is_there(name):
    module, _, attribute = present_name(name).rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
    assert present_name(present_name(name)) == present_name(name)


def test_a_name_is_not_taken_for_one_that_begins_alike():
    assert present_name("kdpose.modulesque.A") == "kdpose.modulesque.A"
    assert present_name("kdpose.checkpoints.load.load_net") == "kdpose.checkpoints.load.load_net"


def as_before(cfg):
    """A configuration as an earlier version wrote it: resolved, under that version's names."""
    text = OmegaConf.to_yaml(cfg, resolve=True)
    for old in OF_OLD:
        text = text.replace(present_name(old), old)
    return OmegaConf.create(text)


@pytest.mark.parametrize("recipe", ["teacher", "stage1", "stage2"])
def test_an_earlier_runs_configuration_is_the_same(recipe):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=[f"+experiment={recipe}", "logger=wandb"])
    before = as_before(cfg)
    assert before != OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert changes(before, cfg) == []
    assert renamed(before) == OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    before.optimizer.lr = 1.0
    assert changes(before, cfg) == ["optimizer.lr 1.0 -> 0.001"]


def test_a_refiners_network_is_its_students():
    with initialize_config_dir(CONF, version_base="1.3"):
        before, after = (
            compose("train", overrides=["+experiment=stage2", f"backbone={name}"])
            for name in ("hrnet_w32", "lcnet_075")
        )
        other = compose("train", overrides=["+experiment=stage1", "backbone=lcnet_075"])
    assert changes(before, after) == []
    assert any(key.startswith("backbone.") for key in changes(before, other))


def test_interpolations_and_lists_are_kept():
    cfg = OmegaConf.create(
        {"a": "${b}", "b": [{"_target_": "kdpose.callbacks.ProgressBar"}, 3], "c": None}
    )
    plain = OmegaConf.to_container(renamed(cfg), resolve=False)
    new = {"_target_": "kdpose.training.callbacks.ProgressBar"}
    assert plain == {"a": "${b}", "b": [new, 3], "c": None}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lspet_stage1", "+experiment=stage1 dataset=lspet"),
        ("coco_teacher", "+experiment=teacher dataset=coco"),
        ("synthetic_baseline", "+experiment=baseline +scale=synthetic"),
        ("mine_stage1", None),
        ("lspet_stage3", None),
    ],
)
def test_what_replaces_an_experiment(name, words):
    assert replacement(name) == words


def test_a_run_is_made_by_its_recipe():
    assert words_for("my_cats_stage2") == "+experiment=stage2 dataset=my_cats"
    assert words_for("run") is None


def test_an_option_that_came_later_and_is_off_is_no_change():
    before = OmegaConf.create({"teacher": {"ckpt": "t.ckpt"}})
    after = OmegaConf.create({"teacher": {"ckpt": "t.ckpt", "cache": False, "folder": "answers"}})
    assert changes(before, after) == []
    after.teacher.cache = True
    assert changes(before, after) == ["teacher.cache None -> True"]
    before.teacher.cache = False
    assert changes(before, after) == ["teacher.cache False -> True"]
