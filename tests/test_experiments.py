"""Every experiment composes and builds; those of the paper run on real photographs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kdpose.checkpoints.load import load_net
from kdpose.cli import CONF
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import RefinedPoseNet
from kdpose.runtime.recipes import replacement
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.training.pipeline import _labels, _stage_overrides
from kdpose.training.stage import build_net, train
from kdpose.training.values import check_values


def options(group):
    """The names of a group of the configuration."""
    return sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))


EXPERIMENTS, DATASETS, PIPELINES = (options(g) for g in ("experiment", "dataset", "pipeline"))
RECIPES = {"teacher", "baseline", "stage1", "stage2", "full", "ablation"}
OF_OLD = sorted(
    {
        f"{data}_{recipe}"
        for data in ("coco", "crowdpose", "lspet", "synthetic")
        for recipe in RECIPES
    }
    | {"lspet_ablation_gpu", "lspet_full_cpu", "lspet_student"}
)


def composed(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=list(overrides))


def stages_of(plain):
    """The stages of a composed pipeline, each checked to be a recipe and to come in its turn."""
    pipeline = plain["pipeline"]
    stages, schemes = pipeline["stages"], pipeline.get("schemes")
    assert {stage["experiment"] for stage in stages.values()} <= RECIPES
    assert schemes or len(stages) == (4 if "teacher" in stages else 2)
    if schemes:  # Table IV, a search, and at a CPU's scale rows beyond
        assert list(schemes)[:8] == [*range(7), "searched"]
        assert set(stages) == {label for labels in schemes.values() for label in labels}
    # a stage comes after those whose checkpoints it takes
    for labels in (schemes or {"all": list(stages)}).values():
        for place, label in enumerate(labels):
            sources = {stages[label][k] for k in ("teacher", "student") if k in stages[label]}
            assert sources <= {*labels[:place]} | (
                {"teacher"} - {*stages}
            )  # or it is no checkpoint
    return stages


def check(*words, tmp_path):
    """Compose words and build what they name, but for networks and data; the plain values."""
    cfg = composed(*words, f"data_dir={tmp_path}", f"runs={tmp_path}")
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_values(cfg)
    terms = instantiate(cfg.loss, _convert_="all")
    assert terms
    assert all(isinstance(term, LossTerm) for term in terms.values())
    for node in (cfg.codec, cfg.head, cfg.module, cfg.optimizer, cfg.schedule):
        assert instantiate(node, _partial_=True, _convert_="all")
    if cfg.pipeline is not None:
        stages_of(plain)
    return plain


def test_experiments_are_few():
    assert set(EXPERIMENTS) >= RECIPES
    assert len(EXPERIMENTS) <= 16


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - RECIPES))
def test_experiment_composes(name, tmp_path):
    assert check(f"+experiment={name}", tmp_path=tmp_path)["name"] == name


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_recipe_composes_on_every_data_set(recipe, dataset, tmp_path):
    plain = check(f"+experiment={recipe}", f"dataset={dataset}", tmp_path=tmp_path)
    assert plain["name"] == f"{dataset}_{recipe}"
    assert plain["stage1_ckpt"] == (
        f"{tmp_path}/{dataset}_stage1/best.ckpt" if recipe == "stage2" else None
    )
    if recipe not in ("teacher", "baseline"):
        assert plain["teacher"]["ckpt"] == f"{tmp_path}/{dataset}_teacher/best.ckpt"


@pytest.mark.parametrize("pipeline", sorted({*PIPELINES} - {"bundled"}))
@pytest.mark.slow
def test_stages_of_a_pipeline_compose(pipeline):
    recipe = "full" if pipeline.startswith("two_stage") else "ablation"
    words = ["dataset=lspet", f"pipeline={pipeline}"]
    cfg = composed(f"+experiment={recipe}", *words)
    ckpts = {label: f"{label}.ckpt" for label in cfg.pipeline.stages}
    names = set()
    for stage in cfg.pipeline.stages.values():
        plain = OmegaConf.to_container(
            composed(*_stage_overrides(cfg, stage, words[:1], ckpts)), resolve=True
        )
        assert plain["dataset"]["name"] == "lspet"
        assert plain["pipeline"] is None
        assert (plain["refiner"] is not None) == (stage.experiment == "stage2")
        if "teacher" in stage:
            assert plain["teacher"]["ckpt"] == f"{stage.teacher}.ckpt"
        names.add(plain["name"])
    assert len(names) == len(ckpts)


def test_stages_of_the_bundled_student_ask_its_teacher(monkeypatch):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=["+experiment=bundled_student"], return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    assert _labels(cfg) == ["stage1", "stage2"]
    for stage in cfg.pipeline.stages.values():
        found = composed(*_stage_overrides(cfg, stage, ["dataset=lspet"], {"stage1": "S"}))
        assert found.teacher.file == "data/movenet_thunder.onnx"
        assert "OnnxNet" in found.teacher._target_
        assert "fea" not in found.loss
    assert found.stage1_ckpt == "S"


def test_stages_under_stored_poses_compare_no_features():
    common = ["dataset=lspet", "teacher.cache=true"]
    cfg = composed("+experiment=full", *common)
    ckpts = {"stage1": "s.ckpt", "teacher": "t.ckpt"}
    for label in ("baseline", "stage1", "stage2"):
        plain = composed(*_stage_overrides(cfg, cfg.pipeline.stages[label], common, ckpts))
        assert (plain.teacher is not None) == (label != "baseline")
        if label == "stage1":
            assert (plain.teacher.ckpt, plain.teacher.cache) == ("t.ckpt", True)
            assert "fea" not in plain.loss


@pytest.mark.parametrize("name", OF_OLD)
def test_an_earlier_name_is_replaced_by_words_that_compose(name, tmp_path):
    words = replacement(name)
    plain = check(*words.split(), tmp_path=tmp_path)
    assert plain["name"] == name


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
@pytest.mark.parametrize("recipe", ["stage1", "stage2", "full"])
def test_the_papers_names_are_recipes(dataset, recipe):
    short = composed(f"+experiment={dataset}_{recipe}")
    assert short == composed(f"+experiment={recipe}", f"dataset={dataset}")


def test_synthetic_stages_keep_their_scale():
    cfg = composed("+experiment=synthetic_full")
    ckpts = {label: f"{label}.ckpt" for label in cfg.pipeline.stages}
    found = {}
    for label, stage in cfg.pipeline.stages.items():
        plain = composed(*_stage_overrides(cfg, stage, [], ckpts))
        every = (plain.trainer.max_epochs, plain.trainer.check_val_every_n_epoch)
        found[label] = (plain.name, *every, plain.data.batch_size, plain.data.cache_images)
        assert list(plain.codec.input_size) == [48, 64]
        if label != "stage2":
            assert plain.codec.sigma == 2.0
        channels = [32, 64, 128, 256] if label == "teacher" else [24, 48, 96, 160]
        assert list(plain.backbone.model_args.channels) == channels
    assert found == {
        "teacher": ("synthetic_teacher", 8, 8, 32, 2000),
        "baseline": ("synthetic_baseline", 11, 11, 32, 2000),
        "stage1": ("synthetic_stage1", 11, 11, 32, 2000),
        "stage2": ("synthetic_stage2", 3, 1, 32, 2000),
    }
    refiner = plain.refiner
    assert (refiner.residual, refiner.hidden, list(refiner.widths)) == (True, 64, [96, 64, 64])


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
def test_schedule_is_the_papers(dataset):
    stage1 = composed(f"+experiment={dataset}_stage1")
    stage2 = composed(f"+experiment={dataset}_stage2")
    assert stage1.trainer.max_epochs == 210
    assert stage2.trainer.max_epochs == 30
    assert list(stage1.schedule.milestones) == [170, 200]
    assert stage1.optimizer.lr == stage2.optimizer.lr == 1e-3
    assert stage1.backbone.name == "hrnet_w32"
    assert composed("+experiment=teacher", f"dataset={dataset}").backbone.name == "hrnet_w48"
    weights = {name: term.weight for name, term in stage1.loss.items() if name != "kl"}
    assert weights == {"fea": 5e-5, "pos": 0.1, "cst": 0.1}
    assert [term.weight for term in stage2.loss.values()] == [0.3, 0.5, 1.0]
    assert list(stage1.codec.input_size) == [192, 256]


def first_images(annotations, count, folder):
    """A copy of the file with its first images alone, to keep the test short."""
    data = json.loads(annotations.read_text())
    data["images"] = data["images"][:count]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    path = folder / annotations.name
    path.write_text(json.dumps(data))
    return path


def real_overrides(dataset, real, runs):
    """Where the real photographs lie in the official layout, and a run of two steps."""
    if dataset == "coco":
        root = real / "coco_mini"
        some = first_images(root / "annotations" / "person_keypoints_val2017.json", 8, runs)
        files = [f"dataset.val.annotations={some}"]
    else:
        root = real / "crowdpose"
        found = f"{root}/annotations/test_crowdpose.json"
        files = [f"dataset.train.annotations={found}", f"dataset.val.annotations={found}"]
    return [
        *files,
        f"dataset.root={root}",
        f"runs={runs}",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=2",
        "trainer.log_every_n_steps=1",
        "trainer.limit_val_batches=1",
        "module.flip_test=false",
        "data.batch_size=2",
        "data.num_workers=0",
    ]


@pytest.mark.parametrize(
    ("dataset", "skeleton", "teacher", "student", "params"),
    [
        ("crowdpose", CROWDPOSE, (), (), 66.35e6),  # W48 teaches W32
        ("coco", COCO, ["backbone=hrnet_w32"], ["backbone=hrnet_w18_small"], 31.29e6),
    ],
    ids=["crowdpose", "coco"],
)
@pytest.mark.slow
def test_paper_stages_run_on_real_photographs(
    dataset, skeleton, teacher, student, params, real_data, tmp_path
):
    """At 256x192: two real steps and a validation of each stage."""
    common = real_overrides(dataset, real_data, tmp_path)
    net, recipe = build_net(
        composed("+experiment=teacher", f"dataset={dataset}", *common, *teacher), skeleton
    )
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(params, rel=1e-3)
    folder = tmp_path / f"{dataset}_teacher"
    folder.mkdir()
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": weights, "kdpose": {"net": recipe}}, folder / "best.ckpt")
    size = (folder / "best.ckpt").stat().st_size

    common.append("teacher.check=false")  # its weights are random
    common.append("doctor=false")  # which refuses CrowdPose's two images: they are both splits
    train(composed(f"+experiment={dataset}_stage1", *common, *student))
    taught = tmp_path / f"{dataset}_stage1" / "best.ckpt"
    assert taught.stat().st_size < 0.5 * size  # the teacher is not in it
    assert len(load_net(taught).net.skeleton) == len(skeleton)
    log = (tmp_path / f"{dataset}_stage1" / "csv" / "version_0" / "metrics.csv").read_text()
    for key in ("train/loss_kl", "train/loss_fea", "train/loss_pos", "train/loss_cst", "val/AP"):
        assert key in log

    train(composed(f"+experiment={dataset}_stage2", *common))
    refined = load_net(tmp_path / f"{dataset}_stage2" / "best.ckpt").net
    assert isinstance(refined, RefinedPoseNet)
    before = load_net(taught).net.state_dict()
    after = refined.student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    shutil.rmtree(tmp_path)
