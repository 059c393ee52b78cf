"""One stage: build the network, train it and score its best checkpoint."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, Timer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from kdpose.checkpoints.guest_net import GuestNet
from kdpose.checkpoints.load import load_made_by_run
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.cli import console
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.one_category import take_category
from kdpose.data.taught import StoredTeacher
from kdpose.data.tuning import tuning_split
from kdpose.evaluation.cost import complexity
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.runtime.locks import claimed
from kdpose.runtime.ranks import rank
from kdpose.skeletons.skeleton import Skeleton
from kdpose.training import dashboards
from kdpose.training.asked_teacher import AskedTeacher
from kdpose.training.callbacks import EpochLines
from kdpose.training.checkpoint_files import WholeFiles
from kdpose.training.pose_module import PoseModule
from kdpose.training.preflight import check_data
from kdpose.training.record import report, training_record
from kdpose.training.run_folder import finished, open_run
from kdpose.training.starts import begin
from kdpose.training.stopping import StopSafely, fit
from kdpose.training.teacher_check import build_teacher, check_teacher, inference_device
from kdpose.training.values import check_values

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
        if not skeleton.limbs:
            raise ValueError(
                f"skeleton '{skeleton.name}' has no limbs, so the refiner's graph has no edges: "
                "list them in the category's 'skeleton', or in a YAML and set "
                "dataset.skeleton.path=FILE.yaml"
            )
        recipe = {
            "_target_": "kdpose.pose_net.RefinedPoseNet",
            "student": stage1.description["net"],
            "refiner": OmegaConf.to_container(cfg.refiner, resolve=True),
        }
        return RefinedPoseNet(stage1.net, instantiate(cfg.refiner, _convert_="all")), recipe
    parts: dict[str, Any] = {
        name: OmegaConf.to_container(cfg[name], resolve=True)
        for name in ("backbone", "head", "codec")
    }
    net = PoseNet(
        build_backbone(cfg.backbone),
        instantiate(cfg.head, _convert_="all"),
        instantiate(cfg.codec, _convert_="all"),
        skeleton,
    )
    for key in ("pretrained", "pretrained_file"):  # a checkpoint brings its weights
        parts["backbone"].pop(key, None)
    described = {
        "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
        "values": skeleton.to_dict(),
    }
    return net, {"_target_": "kdpose.pose_net.PoseNet", **parts, "skeleton": described}


def describe(cfg: DictConfig, recipe: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself."""
    train = cfg.dataset.train if OmegaConf.is_list(cfg.dataset.train) else [cfg.dataset.train]
    parts = [_absolute(part) for part in train]
    files: dict[str, Any] = {
        "train": parts if OmegaConf.is_list(cfg.dataset.train) else parts[0],
        "val": _absolute(cfg.dataset.val),
    }
    facts = {"name": cfg.dataset.name, "protocol": cfg.dataset.protocol}
    return {
        "net": recipe,
        "dataset": {**facts, **files["val"], "train": files["train"]},
        "experiment": cfg.name,
        "seed": cfg.seed,
    }


def _absolute(paths: DictConfig) -> dict[str, str]:
    return {str(name): str(Path(path).absolute()) for name, path in paths.items()}


def train(cfg: DictConfig, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Train one stage as configured and score its best checkpoint.

    Args:
        cfg: of the run.
        callbacks: besides those of the configuration.

    Returns:
        The metrics that ``metrics.json`` holds.
    """
    check_values(cfg)
    take_category(cfg)
    with claimed(Path(cfg.run_dir)) if rank() == 0 else nullcontext():
        return _train(cfg, callbacks)


def _train(cfg: DictConfig, callbacks: Sequence[L.Callback]) -> dict[str, Any]:
    run_dir, resume = open_run(cfg)
    if finished(run_dir) and resume:
        console.print(f"{cfg.name}: finished already in {run_dir} (resume=auto)")
        return dict(json.loads((run_dir / "metrics.json").read_text()))
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    module, data, asked = built(cfg)
    loggers = list(instantiate(cfg.logger or {}, _convert_="all").values())
    timer = Timer(verbose=False)  # its state is in last.ckpt: a resumed run counts all of it
    trainer = _trainer(cfg, loggers, [*callbacks, EpochLines(), timer, StopSafely(run_dir)])
    _check_devices(cfg, trainer, data)
    check = None
    if rank() == 0:
        if cfg.doctor:
            data.prepare_data()
            check_data(cfg, module.net.skeleton)
        check = check_teacher(cfg, module, data, run_dir, asked)
    metrics: dict[str, Any] = {}
    with dashboards.closing(loggers):
        made_from = dashboards.begin(loggers, cfg, lambda: _cost(module.net), _sources(cfg))
        console.rule(f"{cfg.name}: {trainer.max_epochs} epochs in {run_dir}")
        if resume is not None:
            console.print(f"continued from {Path(resume).name}")
        fit(trainer, module, data, resume)
        if trainer.is_global_zero:
            metrics = report(cfg, run_dir, training_record(cfg, trainer, timer))
            dashboards.end(loggers, cfg.name, metrics, made_from)
    if check is not None:
        check.after(run_dir)
    return trainer.strategy.broadcast(metrics)


def built(
    cfg: DictConfig,
) -> tuple[PoseModule, CocoKeypointDataModule, PoseNet | GuestNet | None]:
    """What is trained, on which data, and the network whose stored answers teach, if any."""
    skeleton = instantiate(cfg.dataset.skeleton, _convert_="all")
    net, recipe = build_net(cfg, skeleton)
    teacher = build_teacher(cfg)
    asked = teacher.net if isinstance(teacher, AskedTeacher) else None
    losses = instantiate(cfg.loss, _convert_="all")
    if isinstance(teacher, AskedTeacher):
        feature = teacher.feature(losses)
        teacher.check_spread(net.codec)
        teacher = replace(_answered(cfg, teacher, skeleton), feature=feature)
    module = instantiate(cfg.module, _partial_=True, _convert_="all")(
        net=net,
        teacher=teacher,
        losses=losses,
        description=describe(cfg, recipe),
    )
    stored = teacher if isinstance(teacher, StoredTeacher) else None
    tune = None
    if cfg.dataset.get("tune") is not None:
        if cfg.dataset.prepare is not None and not Path(cfg.dataset.train.annotations).is_file():
            instantiate(cfg.dataset.prepare)()
        tune = tuning_split(
            OmegaConf.to_container(cfg.dataset.train, resolve=True),  # type: ignore[arg-type]
            cfg.dataset.tune,
            cfg.dataset.tune_seed,
            Path(cfg.runs) / "splits",
        )
    data = instantiate(cfg.data, _partial_=True, _convert_="all")(
        skeleton=skeleton,
        input_size=net.codec.input_size,
        teacher_size=teacher.codec.input_size if isinstance(teacher, PoseNet) else None,
        tune=tune,
        **({} if stored is None else {"taught": stored.skeleton, "answers": stored.files}),
    )
    begin(cfg, net, asked or (teacher if isinstance(teacher, PoseNet) else None), data)
    return module, data, asked


def _answered(cfg: DictConfig, teacher: AskedTeacher, skeleton: Skeleton) -> StoredTeacher:
    """A teacher's answers for all training sets."""
    train: Any = OmegaConf.to_container(cfg.dataset.train, resolve=True)
    parts = train if isinstance(train, list) else [train]
    workers, device = min(2, cfg.data.num_workers), inference_device(cfg)
    return teacher.ask(parts, skeleton, num_workers=workers, device=device)


def _check_devices(cfg: DictConfig, trainer: L.Trainer, data: CocoKeypointDataModule) -> None:
    """Refuse, before any other process is started, what several devices cannot do.

    Raises:
        ValueError: the data do not divide; or a sweep's job has several devices without a scheduler
            that starts its ranks, so that Lightning would, by the sweep's own command line, and
            each began the whole sweep again.
    """
    data.trainer = trainer
    data.share()
    if trainer.world_size > 1 and _is_sweep() and not _scheduled():
        raise ValueError(
            f"a sweep's job has one device, got {trainer.world_size} (trainer.devices): take "
            "hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=DEVICES, or give one "
            "command per job, without -m"
        )
    if cfg.trainer.get("sync_batchnorm"):
        raise ValueError(
            "trainer.sync_batchnorm=true would drop the activations that timm's batch norms hold: "
            "trainer=ddp synchronises them with a plugin that keeps these"
        )


def _is_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _scheduled() -> bool:
    return str(HydraConfig.get().launcher._target_).endswith(".SlurmLauncher")


def _trainer(
    cfg: DictConfig, loggers: Sequence[Logger], callbacks: Sequence[L.Callback]
) -> L.Trainer:
    own = instantiate(cfg.callbacks, _convert_="all").values()
    if not loggers:  # which it would write to
        own = [callback for callback in own if not isinstance(callback, LearningRateMonitor)]
    make = instantiate(cfg.trainer, _partial_=True, _convert_="all")
    try:
        trainer: L.Trainer = make(
            callbacks=[*own, *callbacks],
            logger=list(loggers),
            plugins=[*(make.keywords.get("plugins") or []), WholeFiles()],
        )
    except (MisconfigurationException, TypeError) as error:
        raise ValueError(f"Lightning refuses trainer: {str(error).splitlines()[0]}") from None
    # a run shorter than the interval would end without a validation, so without a best checkpoint
    every = cfg.trainer.check_val_every_n_epoch
    trainer.check_val_every_n_epoch = min(every, trainer.max_epochs or every)
    return trainer


def _cost(net: Net) -> dict[str, float]:
    """Parameters and multiply-adds; counting leaves the net as it would be used, not trained."""
    cost = complexity(net)
    net.train()
    return cost


def _sources(cfg: DictConfig) -> dict[str, str]:
    """The checkpoints that a run is made from."""
    teacher = {} if cfg.teacher is None else {"teacher": str(cfg.teacher.get("ckpt", "stored"))}
    return teacher if cfg.refiner is None else {**teacher, "student": str(cfg.stage1_ckpt)}
