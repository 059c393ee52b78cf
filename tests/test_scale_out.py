"""Training by several processes as a user starts it: Lightning's own launcher, and torchrun."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from torch import nn

from kdpose.cli import CONF
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.runtime.ranks import rank
from kdpose.training.checkpoint_files import resumable
from kdpose.training.run_folder import open_run
from kdpose.training.stage import train
from kdpose.training.synced_norms import SyncedNorms

TINY = (
    "backbone=mobilenetv4_tiny",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=ddp_cpu",
    "trainer.log_every_n_steps=1",
    "trainer.check_val_every_n_epoch=1",
)
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
TRAIN = ("-m", "kdpose.train")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
ENVIRONMENT["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # docs/scale_out.md says why


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def composed(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=list(map(str, overrides)))


def start(said, *command):
    """A command that writes what it says to a file."""
    with said.open("w") as file:
        return subprocess.Popen(
            list(map(str, command)), env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT
        )


def logged(run, name="val/AP"):
    """The column of a run's logs, by the number of times that the run was begun."""
    parts = []
    for number in range(len(list((run / "csv").iterdir()))):
        with (run / "csv" / f"version_{number}" / "metrics.csv").open() as file:
            parts.append([float(row[name]) for row in csv.DictReader(file) if row.get(name)])
    return parts


@pytest.mark.slow
def test_a_pipeline_on_two_processes(crowd, tmp_path):
    where = (f"dataset.root={crowd}", f"runs={tmp_path}", "trainer.max_epochs=1", "scheme=1")
    file = tmp_path / "said.txt"
    done = start(
        file,
        sys.executable,
        *TRAIN,
        "+experiment=ablation",
        "pipeline=ablation_synthetic",
        *TINY,
        *where,
    )
    assert done.wait(timeout=900) == 0, file.read_text()
    said = file.read_text()
    table = (tmp_path / "synthetic_ablation" / "table.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in table[1:]] == ["baseline", "baseline_igp_label"]
    for stage in ("baseline_s0", "baseline_igp_label_s0"):
        run = tmp_path / "synthetic_ablation" / stage
        metrics = json.loads((run / "metrics.json").read_text())
        assert metrics["training"]["devices"] == 2
        assert logged(run) == [[pytest.approx(metrics["AP"], abs=1e-7)]]
        assert said.count(f"{stage}: 1 epochs in") == 1  # the first process alone speaks
    assert said.count("table and pictures in") == 1
    assert not re.search("GPU available|litlogger|train_dataloader", said)  # what Lightning says


def workers(launcher):
    """The processes that torchrun has started."""
    return [p for p in psutil.Process(launcher.pid).children() if "kdpose.train" in p.cmdline()]


@pytest.mark.slow
def test_two_nodes_lose_a_worker_and_complete(crowd, tmp_path):
    run, epochs = tmp_path / "lost", 20
    node = (
        *TORCHRUN, "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=lost",
    )  # fmt: skip
    options = (
        *TRAIN, "+experiment=baseline", "+scale=synthetic", *TINY, f"dataset.root={crowd}",
        f"runs={tmp_path}", "name=lost", "resume=auto", f"trainer.max_epochs={epochs}",
    )  # fmt: skip
    files = [tmp_path / f"node_{n}.txt" for n in (0, 1)]
    nodes = [start(file, *node, *options) for file in files]
    try:
        deadline = time.monotonic() + 240
        while not (run / "last.ckpt").is_file():
            assert all(n.poll() is None for n in nodes), [file.read_text() for file in files]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (victim,) = workers(nodes[1])
        victim.kill()
        for n in nodes:
            assert n.wait(timeout=240) == 0, [file.read_text() for file in files]
    finally:
        for n in nodes:
            n.terminate()  # its workers as well
            n.wait()
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["training"]["epochs"], metrics["training"]["devices"]) == (epochs, 2)
    before, after = logged(run)
    assert 0 < len(before) < epochs
    assert 0 < len(after) < epochs  # it went on where the checkpoint was
    assert len(before) + len(after) >= epochs
    assert not list(tmp_path.glob("lost.*"))  # no part of the run was kept aside


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["data.batch_size=7"], r"data.batch_size=7, .* multiple of the 2 devices"),
        (["trainer.sync_batchnorm=true"], "drop the activations that timm's batch norms hold"),
    ],
)
def test_what_devices_cannot_do_is_refused_before_they_start(crowd, tmp_path, overrides, match):
    where = (f"dataset.root={crowd}", f"runs={tmp_path}")
    if "sync" in overrides[0]:
        overrides = [f"+{overrides[0]}"]
    cfg = composed("+experiment=baseline", "+scale=synthetic", *TINY, *where, *overrides)
    with pytest.raises(ValueError, match=match):
        train(cfg)


def test_a_sweep_over_several_devices_is_refused(crowd, tmp_path, monkeypatch):
    where = (f"dataset.root={crowd}", f"runs={tmp_path}")
    with initialize_config_dir(CONF, version_base="1.3"):
        overrides = [
            "+experiment=baseline",
            "+scale=synthetic",
            *TINY,
            *where,
            "hydra.mode=MULTIRUN",
        ]
        cfg = compose("train", overrides=overrides, return_hydra_config=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    with pytest.raises(
        ValueError,
        match=r"a sweep's job has one device, got 2 \(trainer.devices\): take hydra/launcher=",
    ):
        train(composed(*overrides[:-1]))


def test_torchrun_and_slurm_say_how_many(monkeypatch):
    for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"):
        monkeypatch.delenv(name, raising=False)
    counts = ("devices", "num_nodes")
    assert [composed("trainer=ddp").trainer[c] for c in counts] == [-1, 1]
    assert [composed("trainer=ddp_cpu").trainer[c] for c in counts] == [2, 1]
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    monkeypatch.setenv("SLURM_NNODES", "3")
    assert [composed("trainer=ddp").trainer[c] for c in counts] == [4, 3]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    assert [composed("trainer=ddp").trainer[c] for c in counts] == [8, 2]


def test_other_processes_leave_the_run_alone(monkeypatch, tmp_path):
    cfg = composed(f"run_dir={tmp_path}/run", "resume=auto")
    monkeypatch.setenv("RANK", "1")
    assert rank() == 1
    assert open_run(cfg) == (tmp_path / "run", None)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "0")
    open_run(cfg)
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
    torch.save({key: {} for key in keys}, tmp_path / "run" / "last.ckpt")
    first = open_run(cfg)
    monkeypatch.setenv("RANK", "1")
    assert open_run(cfg) == first == (tmp_path / "run", str(tmp_path / "run" / "last.ckpt"))
    cfg.resume = False
    assert open_run(cfg) == (tmp_path / "run", None)
    assert (tmp_path / "run" / "last.ckpt").is_file()  # the first process keeps it aside


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Parameters that say they are on one, which this machine need not have."""
    real = nn.Module.parameters

    def parameters(module, recurse=True):
        yield torch.nn.Parameter(torch.zeros(1, device="meta"))
        yield from real(module, recurse)

    monkeypatch.setattr(nn.Module, "parameters", parameters)


def test_synchronised_norms_keep_activations_names_and_values(tiny_student, on_a_gpu):
    torch.manual_seed(0)
    net = instantiate(tiny_student, _convert_="all").eval()
    image = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    before, names = net(image).features[0], list(net.state_dict())
    synced = SyncedNorms().apply(net)
    kinds = [type(m) for m in synced.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert kinds
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    torch.testing.assert_close(synced.eval()(image).features[0], before)
    assert list(synced.state_dict()) == names
    graph = IGPGCN([8, 8, 8], [4, 8, 16], (48, 64), 14, [(0, 1)], hidden=8, widths=(8, 8, 8))
    assert all(
        isinstance(m, nn.SyncBatchNorm)
        for m in SyncedNorms().apply(graph).modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    )


def test_synchronised_norms_on_a_cpu_are_refused():
    with pytest.raises(ValueError, match="cannot be synchronised on CPUs"):
        SyncedNorms().apply(nn.Linear(1, 1))


@pytest.mark.slow
def test_a_stop_signal_to_one_of_two_processes_ends_both_after_a_checkpoint(crowd, tmp_path):
    command = (
        sys.executable, *TRAIN, "+experiment=baseline", "+scale=synthetic", *TINY,
        f"dataset.root={crowd}", f"runs={tmp_path}", "name=told", "~callbacks.pictures",
    )  # fmt: skip
    run, file = tmp_path / "told", tmp_path / "said.txt"
    first = start(file, *command, "trainer.max_epochs=900")
    deadline = time.monotonic() + 240
    while not (run / "last.ckpt").is_file():
        assert first.poll() is None, file.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    others = psutil.Process(first.pid).children(recursive=True)
    assert others
    first.terminate()
    assert first.wait(timeout=60) == 143, file.read_text()
    assert psutil.wait_procs(others, timeout=20)[1] == []
    said = file.read_text()
    assert "Traceback" not in said
    assert said.count("stopped by SIGTERM; ") == 1
    assert resumable(run) == run / "last.ckpt"
