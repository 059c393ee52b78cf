"""Train one stage, or a whole pipeline: ``python -m kdpose.train +experiment=synthetic_full``."""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints import load_made_by_run, load_net
from kdpose.cli import console, entry_point
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.evaluate import evaluate_net
from kdpose.keypoints import Skeleton
from kdpose.pipeline import run_pipeline
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.ranks import rank
from kdpose.runs import finished, open_run
from kdpose.tables import caption, metrics_table
from kdpose.teacher_check import build_teacher, check_teacher

_log = logging.getLogger(__name__)
Net = PoseNet | RefinedPoseNet


def build_net(cfg: DictConfig, skeleton: Skeleton) -> tuple[Net, dict[str, Any]]:
    """The network to train, and the plain configuration that rebuilds it without any download."""
    if cfg.refiner is not None:
        stage1 = load_made_by_run(cfg.stage1_ckpt, "stage1_ckpt")
        if not isinstance(stage1.net, PoseNet):
            raise ValueError(f"{cfg.stage1_ckpt} (from stage1_ckpt) is refined already")
        if stage1.net.skeleton.joints != skeleton.joints:
            raise ValueError(
                f"{cfg.stage1_ckpt} (from stage1_ckpt) has skeleton '{stage1.net.skeleton.name}' "
                f"and dataset.skeleton is '{skeleton.name}'"
            )
        recipe = {
            "_target_": "kdpose.pose_net.RefinedPoseNet",
            "student": stage1.description["net"],
            "refiner": OmegaConf.to_container(cfg.refiner, resolve=True),
        }
        return RefinedPoseNet(stage1.net, instantiate(cfg.refiner, _convert_="all")), recipe
    parts = {
        name: OmegaConf.to_container(cfg[name], resolve=True)
        for name in ("backbone", "head", "codec")
    }
    net = PoseNet(
        instantiate(cfg.backbone, _convert_="all"),
        instantiate(cfg.head, _convert_="all"),
        instantiate(cfg.codec, _convert_="all"),
        skeleton,
    )
    parts["backbone"] |= {"pretrained": False, "pretrained_file": None}  # type: ignore[operator]
    described = {"_target_": "kdpose.keypoints.Skeleton.from_dict", "values": skeleton.to_dict()}
    return net, {"_target_": "kdpose.pose_net.PoseNet", **parts, "skeleton": described}


def describe(cfg: DictConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    files = {
        split: {name: str(Path(path).absolute()) for name, path in cfg.dataset[split].items()}
        for split in ("train", "val")
    }
    facts = {"name": cfg.dataset.name, "protocol": cfg.dataset.protocol}
    return {
        "net": recipe,
        "dataset": {**facts, **files["val"], "train": files["train"]},
        "experiment": cfg.name,
        "seed": cfg.seed,
    }


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train one stage as configured and score its best checkpoint.

    Returns:
        The metrics that ``metrics.json`` holds.
    """
    run_dir, resume = open_run(cfg)
    if finished(run_dir) and resume:
        console.print(f"{cfg.name}: finished already in {run_dir} (resume=auto)")
        return dict(json.loads((run_dir / "metrics.json").read_text()))
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    data = instantiate(cfg.data, _partial_=True, _convert_="all")
    skeleton = instantiate(cfg.dataset.skeleton, _convert_="all")
    net, recipe = build_net(cfg, skeleton)
    teacher = build_teacher(cfg)
    module = instantiate(cfg.module, _partial_=True, _convert_="all")(
        net=net,
        teacher=teacher,
        losses=instantiate(cfg.loss, _convert_="all"),
        description=describe(cfg, recipe),
    )
    datamodule = data(
        skeleton=skeleton,
        input_size=net.codec.input_size,
        teacher_size=teacher.codec.input_size if teacher is not None else None,
    )
    timer = Timer(verbose=False)  # its state is in last.ckpt: a resumed run counts its first part
    trainer = instantiate(cfg.trainer, _partial_=True, _convert_="all")(
        callbacks=[*instantiate(cfg.callbacks, _convert_="all").values(), timer],
        logger=list(instantiate(cfg.logger, _convert_="all").values()),
    )
    _check_devices(cfg, trainer, datamodule)
    check = check_teacher(cfg, module, datamodule, run_dir) if rank() == 0 else None
    # a run shorter than the interval would end without a validation, so without a best checkpoint
    trainer.check_val_every_n_epoch = min(cfg.trainer.check_val_every_n_epoch, trainer.max_epochs)
    console.rule(f"{cfg.name}: {trainer.max_epochs} epochs in {run_dir}")
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume)
    metrics: dict[str, Any] = {}
    if trainer.is_global_zero:
        metrics = report(cfg, run_dir, _training(cfg, trainer, timer))
    if check is not None:
        check.after(run_dir / "predictions.json")
    return trainer.strategy.broadcast(metrics)


def _check_devices(cfg: DictConfig, trainer: L.Trainer, data: CocoKeypointDataModule) -> None:
    """Refuse, before any other process is started, what several devices cannot do."""
    data.trainer = trainer
    data.share()
    sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if sweep and trainer.world_size > 1:
        raise ValueError(
            f"a sweep (-m) trains its jobs one by one in this process and cannot use "
            f"{trainer.world_size} devices: take trainer.devices=1, or one command per job"
        )
    if cfg.trainer.get("sync_batchnorm"):
        raise ValueError(
            "trainer.sync_batchnorm=true would drop the activations that timm's batch norms hold: "
            "trainer=ddp synchronises them with a plugin that keeps these"
        )


def _training(cfg: DictConfig, trainer: L.Trainer, timer: Timer) -> dict[str, Any]:
    """What ``metrics.json`` says of the training itself."""
    device = trainer.strategy.root_device
    return {
        "seed": cfg.seed,
        "epochs": trainer.current_epoch,
        "seconds": round(timer.time_elapsed("train"), 1),
        "devices": trainer.world_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def report(cfg: DictConfig, run_dir: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Score the best checkpoint from its file; writes ``metrics.json`` and ``predictions.json``.

    Args:
        cfg: of the run.
        run_dir: its folder.
        training: what ``metrics.json`` is to say of the training itself.
    """
    best = run_dir / "best.ckpt"
    metrics = evaluate_net(
        load_net(best),
        boxes=cfg.data.boxes,
        flip=cfg.module.flip_test,
        batch_size=cfg.data.batch_size,
        num_workers=cfg.data.num_workers,
        results_out=run_dir / "predictions.json",
    )
    metrics |= {"ckpt": str(best.absolute()), "training": training}
    (run_dir / "metrics.json").write_text(json.dumps(metrics, indent=2))
    console.print(metrics_table(caption(metrics), {cfg.name: metrics}))
    return metrics


def _job_name(job: Sequence[str], command_line: Sequence[str]) -> str:
    """The values that tell a sweep's job from the others: ``optimizer.lr-0.001_seed-2``."""
    parser = OverridesParser.create()
    given = parser.parse_overrides([word for word in command_line if "=" in word])
    swept = {override.key_or_group for override in given if override.is_sweep_override()}
    names = [o.lstrip("+").replace("=", "-") for o in job if o.lstrip("+").split("=")[0] in swept]
    return "_".join(names).replace("/", "-") or "0"


@entry_point("train")
def main(cfg: DictConfig) -> float | None:
    """Entry point; returns the AP, by which sweeps choose."""
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.mode == RunMode.MULTIRUN:
        cfg.run_dir = str(Path(cfg.run_dir) / _job_name(hydra_cfg.overrides.task, sys.argv[1:]))
    if cfg.pipeline is not None:
        overrides = list(hydra_cfg.overrides.task)
        if hydra_cfg.mode == RunMode.MULTIRUN and "schemes" not in cfg.pipeline:
            overrides.append(f"runs='{cfg.run_dir}'")  # each job has stages of its own
        return run_pipeline(cfg, overrides, train)
    return train(cfg)["AP"]


if __name__ == "__main__":
    main()
