"""What dashboards get, read back from their files; W&B's by a reader of its own log format."""

import csv
import json
import os
import struct
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

import kdpose.train
import kdpose.training.stage
from kdpose.checkpoints.load import load_net
from kdpose.evaluation.cost import complexity
from kdpose.runtime.provenance import sha256
from kdpose.training.dashboards import has_key, wandb_logger

TERMS = {f"train/loss{term}" for term in ("", "_kl", "_fea", "_pos", "_cst")} | {"train/gamma"}
BLOCKS = {f"train/loss{term}" for term in ("", "_gcn_1", "_gcn_2", "_gcn_3")}
SCORES = {f"val/{n}" for n in ("AP", "AP50", "AP75", "AR", "AP_easy", "AP_medium", "AP_hard")}


def records(path):
    """Records of a ``.wandb`` file: LevelDB's log of 32 KiB blocks after a header of 7 bytes."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place < len(data):
        if 32768 - place % 32768 < 7:  # no room for a record's header: the block is padded
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7].ljust(7, b"\0"))
        if place + 7 + length > len(data):  # W&B's service is still writing it
            return
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(whole)
            whole = b""


class OfflineRun:
    """What one offline run sent, by kind."""

    def __init__(self, folder):
        (self.file,) = folder.glob("*.wandb")
        self.kinds, self.history, self.config, self.artifacts, self.run = set(), [], {}, [], None
        self.exit_code = None
        for record in records(self.file):
            kind = record.WhichOneof("record_type")
            self.kinds.add(kind)
            if kind == "history":
                self.history.append(_nested(record.history.item))
            elif kind == "run":
                self.run = self.run or record.run
                self._configure(record.run.config.update)
            elif kind == "config":
                self._configure(record.config.update)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code
            elif kind == "artifact":
                self.artifacts.append(record.artifact)

    def _configure(self, items):
        self.config |= _nested(items)

    def keys(self):
        return {key for row in self.history for key in row}

    def values(self, key):
        return [row[key] for row in self.history if key in row]


def _nested(items):
    """A dictionary of items, each of which has the path of its key."""
    found = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        node = found
        for name in path:
            node = node.setdefault(name, {})
        node[last] = json.loads(item.value_json)
    return found


@pytest.fixture(scope="module")
def runs(crowd, tiny_checkpoints, tmp_path_factory):
    """Runs of stage 1 and 2 in this one process, under all loggers; their folder."""
    folder = tmp_path_factory.mktemp("dashboards")
    student = tiny_checkpoints["student"]
    tiny = [
        "backbone=mobilenetv4_tiny",
        "codec.input_size=[48,64]",
        "data.batch_size=8",
        "data.num_workers=0",
        "trainer=cpu",
        "trainer.max_epochs=2",
        "trainer.check_val_every_n_epoch=1",
        "trainer.log_every_n_steps=1",
        "module.flip_test=false",
        "teacher.check=false",
        "callbacks.pictures.persons=3",
        "callbacks.pictures.every_n_epochs=1",
        "logger=[wandb,tensorboard]",
        "group=both",
        f"teacher.ckpt={student}",
        f"stage1_ckpt={folder}/synthetic_stage1/best.ckpt",
        f"dataset.root={crowd}",
        f"runs={folder}",
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_API_KEY", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder))  # no key there either
        for stage in ("stage1", "stage2"):
            words = [f"+experiment={stage}", "+scale=synthetic", *tiny]
            patch.setattr(sys, "argv", ["kdpose.train", *words])
            kdpose.train.main()
    return folder


def read_back(folder, patience=60.0):
    """A finished run. W&B's service writes its file's end after ``finish()`` has returned."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    until = time.monotonic() + patience
    while (read := OfflineRun(run)).exit_code is None and time.monotonic() < until:
        time.sleep(0.2)
    return read


@pytest.fixture(scope="module")
def offline(runs):
    return {stage: read_back(runs / f"synthetic_{stage}") for stage in ("stage1", "stage2")}


@pytest.mark.parametrize(("stage", "losses"), [("stage1", TERMS), ("stage2", BLOCKS)])
@pytest.mark.slow
def test_all_loggers_have_the_same_figures(runs, offline, stage, losses):
    folder = runs / f"synthetic_{stage}"
    metrics = json.loads((folder / "metrics.json").read_text())
    undefined = {
        f"val/{name}" for name in ("AP_easy", "AP_medium", "AP_hard") if metrics.get(name) is None
    }
    assert len(undefined) < 3
    wanted = losses | SCORES - undefined
    with (folder / "csv" / "version_0" / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    written = {
        key: [float(row[key]) for row in table if row[key]] for key in table[0] if key in wanted
    }
    logged = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0}).Reload()
    assert wanted <= set(logged.Tags()["scalars"])
    assert wanted <= offline[stage].keys()
    for key in sorted(wanted):
        assert offline[stage].values(key) == pytest.approx(written[key])
        assert [event.value for event in logged.Scalars(key)] == pytest.approx(written[key])
    assert "val/poses" in logged.Tags()["images"]


@pytest.mark.slow
def test_configuration_counts_and_group_arrive(runs, offline, tiny_checkpoints):
    for stage, run in offline.items():
        metrics = json.loads((runs / f"synthetic_{stage}" / "metrics.json").read_text())
        assert run.config["name"] == f"synthetic_{stage}"
        assert run.config["trainer"]["max_epochs"] == 2
        assert run.config["params"] == metrics["params"]
        assert run.config["gmacs"] == metrics["gmacs"]
        given = run.config["made_from"]
        assert given["teacher"]["sha256"] == sha256(tiny_checkpoints["student"])
        assert run.run.run_group == "both"
        assert run.run.display_name == f"synthetic_{stage}"
        assert run.exit_code == 0  # each is finished before the next begins


@pytest.mark.slow
def test_pictures_show_the_same_persons_with_overlays_to_toggle(offline):
    shown = offline["stage1"].values("val/poses")
    assert len(shown) == 2  # one each epoch
    for logged in shown:
        assert logged["count"] == 3
        assert logged["captions"] == shown[0]["captions"]
        assert all(caption.startswith("image ") for caption in logged["captions"])
        overlays = logged["all_masks"]
        assert [set(overlay) for overlay in overlays] == [{"label", "prediction"}] * 3
        files = offline["stage1"].file.parent / "files"
        for path in [overlays[0]["label"]["path"], *logged["filenames"]]:
            assert (files / path).stat().st_size > 50
    assert shown[0]["filenames"] != shown[1]["filenames"]


@pytest.mark.slow
def test_the_result_is_a_table_and_the_checkpoint_an_artifact_with_lineage(
    runs, offline, tiny_checkpoints
):
    run, folder = offline["stage2"], runs / "synthetic_stage2"
    metrics = json.loads((folder / "metrics.json").read_text())
    (table,) = run.values("final")
    written = json.loads((run.file.parent / "files" / table["path"]).read_text())
    row = dict(zip(written["columns"], written["data"][0], strict=True))
    assert row["model"] == "synthetic_stage2"
    assert row["AP"] == metrics["AP"]
    models = [artifact for artifact in run.artifacts if artifact.type == "model"]
    (model,) = models
    assert model.name == "synthetic_stage2"
    facts = json.loads(model.metadata)
    assert facts["sha256"] == sha256(folder / "best.ckpt")
    (student,) = [a for a in offline["stage1"].artifacts if a.type == "model"]
    assert facts["made_from"]["student"]["sha256"] == json.loads(student.metadata)["sha256"]
    assert facts["made_from"]["teacher"]["sha256"] == sha256(tiny_checkpoints["student"])


def test_counting_leaves_the_net_in_training_mode(tiny_checkpoints):
    net = load_net(tiny_checkpoints["student"]).net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert kdpose.training.stage._cost(net) == complexity(load_net(tiny_checkpoints["student"]).net)
    assert net.training
    assert all(layer.training for layer in net.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_resumed_run_keeps_its_id(tmp_path):
    first = wandb_logger(str(tmp_path), offline=True, project="p")
    again = wandb_logger(str(tmp_path), offline=True, project="p")
    other = wandb_logger(str(tmp_path / "other"), offline=True, project="p")
    assert first.version == again.version == (tmp_path / "wandb_id").read_text()
    assert other.version != first.version


def test_a_key_lets_it_online_and_nothing_asks_for_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_key()
    (tmp_path / ".netrc").write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


def test_without_a_writable_home_wandb_stages_in_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("kdpose.training.dashboards.WandbLogger", lambda **options: None)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, "")  # so that it is undone
        monkeypatch.delenv(name)
    wandb_logger(str(tmp_path / "run"), offline=True)
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "run")


def test_where_nobody_knows_a_home_the_run_is_it(tmp_path, monkeypatch):
    monkeypatch.setattr("kdpose.training.dashboards.WandbLogger", lambda **options: None)
    for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, "")  # so that it is undone
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    wandb_logger(str(tmp_path / "run"), offline=True)
    assert os.environ["HOME"] == str(tmp_path / "run")
