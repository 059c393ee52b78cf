"""Every experiment composes and builds; those of the paper run on real photographs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kdpose.checkpoints.load import load_net
from kdpose.cli import CONF
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import RefinedPoseNet
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.train import build_net, train

EXPERIMENTS = sorted(path.stem for path in (Path(CONF) / "experiment").glob("*.yaml"))


def composed(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes(name, tmp_path):
    cfg = composed(f"+experiment={name}", f"data_dir={tmp_path}", f"runs={tmp_path}")
    plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert plain["name"] == name
    terms = instantiate(cfg.loss, _convert_="all")
    assert terms
    assert all(isinstance(term, LossTerm) for term in terms.values())
    if cfg.pipeline is not None:
        stages = [stage["experiment"] for stage in plain["pipeline"]["stages"].values()]
        assert set(stages) <= set(EXPERIMENTS)
        schemes = plain["pipeline"].get("schemes")
        assert len(stages) == (10 if schemes else 4)
        if schemes:  # a stage comes after those whose checkpoints it takes
            assert list(schemes) == [*range(7), "searched"]
            for labels in schemes.values():
                for place, label in enumerate(labels):
                    stage = plain["pipeline"]["stages"][label]
                    sources = {stage[k] for k in ("teacher", "student") if k in stage}
                    assert sources <= set(labels[:place])


@pytest.mark.parametrize("dataset", ["coco", "crowdpose"])
def test_schedule_is_the_papers(dataset):
    stage1 = composed(f"+experiment={dataset}_stage1")
    stage2 = composed(f"+experiment={dataset}_stage2")
    assert stage1.trainer.max_epochs == 210
    assert stage2.trainer.max_epochs == 30
    assert list(stage1.schedule.milestones) == [170, 200]
    assert stage1.optimizer.lr == stage2.optimizer.lr == 1e-3
    assert stage1.backbone.name == "hrnet_w32"
    assert composed(f"+experiment={dataset}_teacher").backbone.name == "hrnet_w48"
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


@pytest.mark.parametrize(("dataset", "skeleton"), [("coco", COCO), ("crowdpose", CROWDPOSE)])
def test_paper_stages_run_on_real_photographs(dataset, skeleton, real_data, tmp_path):
    """W48 teaches W32 at 256x192: two real steps and a validation of each stage."""
    common = real_overrides(dataset, real_data, tmp_path)
    teacher = composed(f"+experiment={dataset}_teacher", *common)
    net, recipe = build_net(teacher, skeleton)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(66.35e6, rel=1e-3)
    folder = tmp_path / f"{dataset}_teacher"
    folder.mkdir()
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": weights, "kdpose": {"net": recipe}}, folder / "best.ckpt")
    size = (folder / "best.ckpt").stat().st_size

    common.append("teacher.check=false")  # its weights are random
    common.append("doctor=false")  # which refuses CrowdPose's two images: they are both splits
    train(composed(f"+experiment={dataset}_stage1", *common))
    student = tmp_path / f"{dataset}_stage1" / "best.ckpt"
    assert student.stat().st_size < 0.5 * size  # the teacher is not in it
    assert len(load_net(student).net.skeleton) == len(skeleton)
    log = (tmp_path / f"{dataset}_stage1" / "csv" / "version_0" / "metrics.csv").read_text()
    for key in ("train/loss_kl", "train/loss_fea", "train/loss_pos", "train/loss_cst", "val/AP"):
        assert key in log

    train(composed(f"+experiment={dataset}_stage2", *common))
    refined = load_net(tmp_path / f"{dataset}_stage2" / "best.ckpt").net
    assert isinstance(refined, RefinedPoseNet)
    before = load_net(student).net.state_dict()
    after = refined.student.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    shutil.rmtree(tmp_path)
