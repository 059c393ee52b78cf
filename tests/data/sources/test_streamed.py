"""Streamed shards against the pack they were cut of."""

import contextlib
import shutil
from datetime import timedelta

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import multiprocessing as mp

from kdpose.data.annotations import load_persons
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.dataset import PoseDataset
from kdpose.data.sources.device_crop import cut
from kdpose.data.sources.packed import Pack
from kdpose.data.sources.packing import write_pack
from kdpose.data.transforms import Augmentation
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import CROWDPOSE

shards = pytest.importorskip(
    "kdpose.data.sources.streamed", reason="litdata, an extra, is not there"
)
SIZE, BATCH, SEED = (48, 64), 4, 5


@pytest.fixture(scope="module")
def pack(crowd, tmp_path_factory):
    annotations = crowd / "annotations" / "crowdpose_trainval.json"
    about = {"annotations": str(annotations), "annotations_sha256": sha256(annotations)}
    folder, persons = tmp_path_factory.mktemp("packs"), load_persons(annotations, CROWDPOSE)
    return write_pack(
        folder / "jpeg", persons, crowd / "images", CROWDPOSE, SIZE, Augmentation(), about=about
    )


@pytest.fixture(scope="module")
def folder(pack, tmp_path_factory):
    """Several shards of some crops each."""
    where = tmp_path_factory.mktemp("shards") / "s"
    shards.write_shards(where, pack, shard_bytes=10_000)
    assert len(list(where.glob("*.bin"))) > 3
    return where


def persons_of(crowd):
    return load_persons(crowd / "annotations" / "crowdpose_trainval.json", CROWDPOSE)


def batches(crowd, folder, on_device=False, num_workers=0):
    data = PoseDataset(
        persons_of(crowd), shards.Streamed(), CROWDPOSE, SIZE, augmentation=Augmentation(), seed=1
    )
    return shards.Shards(str(folder)).batches(
        data, BATCH, seed=SEED, on_device=on_device, num_workers=num_workers
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_streamed_batch_is_the_packs(crowd, pack, folder, num_workers):
    reference = PoseDataset(
        persons_of(crowd), pack, CROWDPOSE, SIZE, augmentation=Augmentation(), seed=1
    )
    loader, orders = batches(crowd, folder, num_workers=num_workers), []
    for epoch in range(2):
        shown = list(loader)
        rows = torch.cat([batch.person for batch in shown]).tolist()
        assert len(shown) == len(loader)
        assert len(rows) == len(set(rows)) >= len(pack) - (num_workers or 1) * BATCH
        orders.append(rows)
        for batch in shown:
            wanted = reference.__getitems__([(epoch, row) for row in batch.person.tolist()])
            for ours, theirs in zip(batch, wanted, strict=True):
                assert (ours is theirs is None) or torch.equal(ours, theirs)
    assert orders[0] != orders[1] != sorted(orders[1])


def test_crops_cut_on_the_device(crowd, pack, folder):
    data = PoseDataset(
        persons_of(crowd), pack, CROWDPOSE, SIZE, augmentation=Augmentation(), seed=1
    )
    host, device = (next(iter(batches(crowd, folder, on_device=d))) for d in (False, True))
    made = cut(device, data)
    assert torch.equal(made.person, host.person)
    assert (made.image.int() - host.image.int()).abs().float().mean() < 1


class Recorder(L.LightningModule):
    """Trains nothing, remembers what it was shown, and is lost after some steps."""

    def __init__(self, steps):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen, self.steps = [], steps

    def training_step(self, batch, batch_idx):
        if len(self.seen) == self.steps:
            raise ConnectionError("lost")
        views = batch.image.sum((1, 2, 3)).tolist()
        self.seen.append((self.current_epoch, batch.person.tolist(), views))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def datamodule(crowd, folder, **options):
    files = {"train": "crowdpose_trainval.json", "val": "crowdpose_test.json"}
    where = {
        split: {"annotations": str(crowd / "annotations" / name), "images": str(crowd / "images")}
        for split, name in files.items()
    }
    values = {
        **where,
        "skeleton": CROWDPOSE,
        "protocol": "crowdpose",
        "input_size": SIZE,
        "batch_size": BATCH,
        "num_workers": 0,
        "shards": str(folder),
    }
    return CocoKeypointDataModule(**{**values, **options})


def run(crowd, folder, kept, steps=None, ckpt=None):
    model, every = Recorder(steps), ModelCheckpoint(kept, filename="last", every_n_train_steps=1)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=[every],
    )
    lost = contextlib.nullcontext() if steps is None else pytest.raises(ConnectionError)
    with lost:
        trainer.fit(model, datamodule=datamodule(crowd, folder), ckpt_path=ckpt)
    return model.seen, every.best_model_path


@pytest.mark.parametrize("where", ["within an epoch", "between epochs"])
def test_a_resumed_run_sees_what_a_whole_one_sees(crowd, folder, tmp_path, where):
    whole, _ = run(crowd, folder, tmp_path / "whole")
    per_epoch = len(whole) // 3
    assert [epoch for epoch, *_ in whole] == sorted(epoch for epoch, *_ in whole)
    stop = per_epoch + (2 if where == "within an epoch" else 0)
    begun, ckpt = run(crowd, folder, tmp_path / "begun", steps=stop)
    resumed, _ = run(crowd, folder, tmp_path / "resumed", ckpt=ckpt)
    assert len(begun) == stop
    assert begun + resumed == whole


def _rank(rank, meeting, crowd, folder, out):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    rows = [batch.person.tolist() for batch in batches(crowd, folder)]
    np.save(out / f"{rank}.npy", np.array(rows))
    torch.distributed.destroy_process_group()


def test_ranks_share_the_persons(crowd, pack, folder, tmp_path):
    mp.start_processes(
        _rank, (tmp_path / "meeting", crowd, folder, tmp_path), nprocs=2, start_method="fork"
    )
    parts = [np.load(tmp_path / f"{rank}.npy") for rank in (0, 1)]
    assert parts[0].shape == parts[1].shape  # both step as often
    assert not set(parts[0].ravel()) & set(parts[1].ravel())
    assert sum(part.size for part in parts) > len(pack) - 2 * BATCH - 2


def test_what_does_not_fit_is_refused(crowd, pack, folder, tmp_path):
    with pytest.raises(FileExistsError, match=r"exists: remove it or name another \(shards="):
        shards.write_shards(folder, pack, 1000)
    with pytest.raises(FileNotFoundError, match=rf"no shards at {tmp_path} \(from data.shards\)"):
        shards.Shards(str(tmp_path))
    raw = shutil.copytree(pack.folder, tmp_path / "raw")
    about = (raw / "pack.json").read_text()
    (raw / "pack.json").write_text(about.replace('"encoding": "jpeg"', '"encoding": "raw"'))
    with pytest.raises(ValueError, match=r"shards are cut of JPEG crops, .*raw holds raw ones"):
        shards.write_shards(tmp_path / "s", Pack(raw), 1000)
    assert not (tmp_path / "s").exists()
    with pytest.raises(ValueError, match=r"needs data.pack=null data.resident=false"):
        datamodule(crowd, folder, resident=True)
    wide = datamodule(crowd, folder, augmentation=Augmentation(rotation=80))
    with pytest.raises(ValueError, match=r"\(from data.shards\) does not serve augmentation.rot"):
        wide.setup("fit")
