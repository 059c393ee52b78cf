"""The fast step against the plain one: same losses, nothing compiled anew, no waiting."""

from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import TorchDispatchMode

from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.codecs.simcc import SimCC
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.feature_mse import feature_mse
from kdpose.losses.limb_length import limb_length_l1
from kdpose.losses.pose_l1 import pose_l1
from kdpose.losses.refined_l1 import refined_l1
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.losses.terms import LossTerm
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training import safeguards
from kdpose.training.callbacks import ProgressBar
from kdpose.training.fast_nets import has_bfloat16
from kdpose.training.schedules import multi_step
from kdpose.training.stage1 import DistillStage1Module
from kdpose.training.stage2 import RefineStage2Module

SIZE = (32, 32)
FAST = {"compile": {"backend": "aot_eager"}, "fold_teacher": True}
DISTILL = {
    "kl": LossTerm(simcc_kl),
    "fea": LossTerm(feature_mse, 5e-5, decay=True),
    "pos": LossTerm(pose_l1, 0.1, decay=True),
    "cst": LossTerm(limb_length_l1, 0.1, decay=True),
}
REFINE = {
    "gcn": LossTerm(partial(refined_l1, block=2), rename={"target_pose": "teacher_pose"}),
}
ADAM = partial(torch.optim.Adam, lr=1e-3)
ON_GPU = torch.cuda.is_available()


def net(neck):
    torch.manual_seed(neck)
    narrow = {"channels": [8, 16, 16, 16], "stem_width": 8}
    backbone = TimmPyramid("resnet10t", neck_channels=neck, model_args=narrow)
    head = partial(SimCCHead, init="projection")
    return PoseNet(backbone, head, SimCC(SIZE, label="gaussian"), CROWDPOSE)


def module(stage, optimizer=ADAM, **options):
    if stage == 1:
        return DistillStage1Module(net(8), DISTILL, optimizer, multi_step, net(12), **options)
    refined = RefinedPoseNet(net(8), partial(IGPGCN, hidden=8, widths=(8, 8, 8)))
    return RefineStage2Module(refined, REFINE, optimizer, multi_step, net(12), **options)


def data(crowd, batch_size=4):
    where = {
        split: {
            "annotations": crowd / "annotations" / f"crowdpose_{name}.json",
            "images": crowd / "images",
        }
        for split, name in (("train", "trainval"), ("val", "test"))
    }
    return CocoKeypointDataModule(
        **where, skeleton=CROWDPOSE, protocol="crowdpose", input_size=SIZE,
        batch_size=batch_size, num_workers=0, cache_images=100,
    )  # fmt: skip


class Losses(L.Callback):
    """The loss of every step, and how many graphs there are at the end of every epoch."""

    def __init__(self):
        self.values, self.graphs = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].detach().clone())

    def on_validation_end(self, trainer, pl_module):
        self.graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def fit(module, data, *callbacks, **options):
    defaults = {"max_epochs": 3, "num_sanity_val_steps": 0, "logger": False}
    options = defaults | {"accelerator": "gpu" if ON_GPU else "cpu"} | options
    trainer = L.Trainer(
        callbacks=list(callbacks),
        devices=1,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
        **options,
    )
    trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_the_fast_step_learns_as_the_plain_one(stage, crowd):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain, fast = Losses(), Losses()
    fit(module(stage), data(crowd), plain)
    assert plain.graphs[-1] == 0
    quick = module(stage, **FAST)
    fit(quick, data(crowd), fast)
    count = len(plain.values)
    assert count >= 20
    torch.testing.assert_close(
        torch.stack(fast.values), torch.stack(plain.values), rtol=2e-3, atol=1e-4
    )
    assert not torch._dynamo.utils.counters["graph_break"]
    assert fast.graphs[0] > 0
    assert fast.graphs == [fast.graphs[0]] * 3  # nothing is compiled after the first epoch
    assert not any("_orig_mod" in name for name in quick.state_dict())


class Reads(TorchDispatchMode):
    """Counts the times that a tensor's value was read by the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


class ReadsPerStep(L.Callback):
    def __init__(self, mode):
        self.mode, self.steps = mode, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = self.mode.count

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(self.mode.count - self.before)


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_steps_do_not_wait_for_the_device(stage, crowd, tmp_path):
    fused = partial(ADAM, fused=True)
    with Reads() as mode:
        steps = ReadsPerStep(mode)
        options = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 20, "max_epochs": 2}
        fit(module(stage, fused), data(crowd, 2), ProgressBar(), steps, **options)
    reading = [number for number, reads in enumerate(steps.steps) if reads]
    assert len(steps.steps) > 30
    # the log and the progress bar, every 20 steps; the check for finite losses never waits
    assert all(number % 20 == 19 for number in reading)
    assert reading[0] == 19


@pytest.mark.skipif(
    not has_bfloat16(torch.device("cuda" if ON_GPU else "cpu")),
    reason="needs hardware with bfloat16",
)
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.slow
def test_bfloat16_learns_as_float32(stage, crowd):
    torch._dynamo.reset()
    plain, fast = Losses(), Losses()
    options = {"max_epochs": 10, "limit_val_batches": 0}
    fit(module(stage), data(crowd), plain, **options)
    compile = {"mode": "reduce-overhead"} if ON_GPU else {"backend": "aot_eager"}
    quick = module(stage, partial(ADAM, fused=True), compile=compile, fold_teacher=True)
    fit(quick, data(crowd), fast, precision="bf16-mixed", **options)
    assert len(plain.values) >= 100
    wanted, found = (torch.stack(c.values).view(-1, 10).mean(1) for c in (plain, fast))
    assert (found / wanted - 1).abs().max() < 0.05


def test_bfloat16_is_not_emulated(crowd, monkeypatch):
    monkeypatch.setattr(safeguards, "has_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="precision=bf16-mixed would be emulated on this cpu"):
        fit(module(1), data(crowd), precision="bf16-mixed", accelerator="cpu")


@pytest.mark.parametrize("options", [{}, FAST])
@pytest.mark.slow
def test_guards_stay_whatever_callbacks_are_given(crowd, options):
    guarded = module(1, **options)
    trainer = fit(guarded, data(crowd), max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    kinds = [type(callback) for callback in trainer.callbacks]
    for kind in (safeguards.RealBfloat16, safeguards.UsedParameters, safeguards.FiniteLosses):
        assert kinds.count(kind) == 1
    assert kinds.count(safeguards.CompiledNets) == bool(options)


@pytest.mark.parametrize("trainer", ["a100", "a100_ddp"])
def test_trainers_ask_for_all_of_it(trainer):
    from hydra import compose, initialize_config_dir

    from kdpose.cli import CONF

    with initialize_config_dir(CONF, version_base="1.3"):
        plain = compose("train", overrides=["+experiment=coco_stage1"])
        one, two = (
            compose("train", overrides=[f"+experiment=coco_stage{n}", f"trainer={trainer}"])
            for n in (1, 2)
        )
    assert (plain.module.compile, plain.module.fold_teacher) == (None, False)
    assert (plain.optimizer.fused, plain.trainer.precision) == (None, "32-true")
    for cfg, epochs in ((one, 210), (two, 30)):
        assert cfg.trainer.precision == "bf16-mixed"
        assert cfg.trainer.max_epochs == epochs
        ranks = {"num_nodes", "plugins"} if trainer == "a100_ddp" else set()
        assert cfg.trainer.keys() == plain.trainer.keys() | {"benchmark"} | ranks
        assert cfg.trainer.strategy == ("ddp" if ranks else "auto")
        assert cfg.module.compile == {"backend": "inductor", "mode": "reduce-overhead"}
        assert cfg.module.fold_teacher
    assert one.optimizer.fused
    assert two.optimizer.fused is None  # it clips
