import json
import os
import signal
import sys
import threading
from collections import Counter
from importlib.util import find_spec

import numpy as np
import psutil
import pytest
from PIL import Image

import kdpose.predict
from kdpose.inference import ray as ray_engine

IMAGES, SHARD = 24, 6


@pytest.fixture
def predict(monkeypatch, tiny_checkpoints, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)

    def run(*overrides):
        argv = [f"ckpt={tiny_checkpoints['student']}", f"out={tmp_path}/out", "boxes=whole"]
        argv += ["engine=ray", "flip=false", "device=cpu", f"source={tmp_path}/photos"]
        monkeypatch.setattr(sys, "argv", ["kdpose", *argv, f"shard={SHARD}", *overrides])
        kdpose.predict.main()

    return run


@pytest.fixture
def cluster():
    """Two workers' room on this machine."""
    if find_spec("ray") is None:
        pytest.skip("the extra kdpose[ray] is not installed")
    ray = ray_engine._ray()
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    random = np.random.default_rng(0)
    for number in range(1, IMAGES):
        pixels = random.integers(0, 256, (240, 320, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.jpg")
    (root / f"{IMAGES}.jpg").write_text("no picture")
    return root


class KillsOne(threading.Thread):
    """Kills the first process that is seen at a shard and has not finished it."""

    def __init__(self, shards):
        super().__init__(daemon=True)
        self.shards, self.lost, self.stop = shards, None, threading.Event()

    def run(self):
        while self.lost is None and not self.stop.wait(0.002):
            for path in self.shards.glob(".*.part"):
                if self.kills(path):
                    return

    def kills(self, path):
        _, shard, writer, _ = path.name.split(".")
        pid = int(writer.rpartition("-")[2])
        assert pid != os.getpid()
        os.kill(pid, signal.SIGSTOP)  # so that it cannot finish in between
        if path.exists() and not (self.shards / f"{shard}.jsonl").exists():
            os.kill(pid, signal.SIGKILL)
            self.lost = (pid, shard)
            return True
        os.kill(pid, signal.SIGCONT)
        return False


@pytest.mark.slow
def test_two_workers_one_killed_every_image_once(cluster, photos, tmp_path, predict, capsys):
    shards = tmp_path / "out/shards"
    shards.mkdir(parents=True)
    killer = KillsOne(shards)
    killer.start()
    try:
        predict("ray.workers=2")
    finally:
        killer.stop.set()
        killer.join()
    pid, lost = killer.lost
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    said = " ".join(capsys.readouterr().out.split())
    assert f"{IMAGES - 1} persons in {IMAGES - 1} images, 1 skipped: {shards}" in said
    files = sorted(shards.iterdir())
    assert len(files) == IMAGES // SHARD
    assert f"{lost}.jsonl" in {path.name for path in files}
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert [line["image_id"] for line in lines] == sorted(range(1, IMAGES + 1), key=str)
    found = Counter(person["image_id"] for line in lines for person in line["persons"])
    assert found == dict.fromkeys(range(1, IMAGES), 1)
    drawn = {path.name for path in (tmp_path / "out").glob("*.jpg")}
    assert drawn == {f"{number}.jpg" for number in range(1, IMAGES)}
    before = {path: path.read_bytes() for path in files}

    files[2].unlink()  # a run that was stopped; the same code on one machine goes on
    written = {path: path.stat().st_mtime_ns for path in files if path != files[2]}
    predict("engine=local")
    assert f"{len(files) - 1} of {len(files)} shards were done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert {path: path.read_bytes() for path in shards.iterdir()} == before


def test_without_the_extra(photos, tmp_path, predict, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit):
        predict()
    assert "error: engine=ray needs the extra: pip install 'kdpose[ray]'" in capsys.readouterr().err


def test_a_workers_error_is_found_in_what_ray_wraps_around_it():
    class Wrapped(Exception):
        def __init__(self, cause):
            super().__init__("a page of traces")
            self.cause = cause

    fault = FileNotFoundError("no image at /a.jpg")
    assert ray_engine._cause(Wrapped(Wrapped(fault))) is fault
    bug = Wrapped(KeyError("x"))
    assert ray_engine._cause(bug) is bug
