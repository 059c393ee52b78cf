"""What training is shown through the data module: resumed, cropped on the device, from a pack."""

import json
import shutil
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from kdpose.data.annotations import load_persons
from kdpose.data.sources.images import ImageFiles
from kdpose.data.sources.packed import Pack, default_folder
from kdpose.data.sources.packing import write_pack
from kdpose.data.transforms import Augmentation
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import CROWDPOSE

SIZE = (48, 64)


class Recorder(L.LightningModule):
    """Trains nothing and remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        views = batch.image.sum((1, 2, 3)).tolist()
        self.seen.append((self.current_epoch, batch.person.tolist(), views))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(data, epochs, folder, ckpt=None):
    model = Recorder()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=folder,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt)
    trainer.save_checkpoint(folder / "last.ckpt")
    return model.seen


def test_a_resumed_run_sees_what_a_whole_one_sees(crowd, tmp_path, make_data):
    whole = run(make_data(crowd), 3, tmp_path)
    assert [epoch for epoch, *_ in whole] == sorted(epoch for epoch, *_ in whole)
    by_epoch = [[rows for e, rows, _ in whole if e == epoch] for epoch in range(3)]
    assert by_epoch[0] != by_epoch[1] != by_epoch[2]  # Lightning has called set_epoch
    begun = run(make_data(crowd), 1, tmp_path)
    resumed = run(make_data(crowd), 3, tmp_path, tmp_path / "last.ckpt")
    assert begun + resumed == whole


def test_crops_cut_on_the_device_train_alike(crowd, tmp_path, make_data):
    host, device = (run(make_data(crowd, crop=where), 2, tmp_path) for where in ("host", "device"))
    assert [seen[:2] for seen in host] == [seen[:2] for seen in device]
    sums = [np.array([view for *_, views in seen for view in views]) for seen in (host, device)]
    assert np.abs(sums[0] - sums[1]).max() < 3 * SIZE[0] * SIZE[1]  # below 1 a pixel
    with pytest.raises(ValueError, match=r"data\.crop must be auto, host or device, got gpu"):
        make_data(crowd, crop="gpu")


@pytest.fixture
def packed(crowd, tmp_path, splits):
    """The synthetic data set with a pack where ``auto`` looks."""
    root = tmp_path / "packed"
    shutil.copytree(crowd, root)
    where = Path(splits(root)["train"]["annotations"])
    about = {"annotations": str(where), "annotations_sha256": sha256(where)}
    write_pack(
        default_folder(where, SIZE),
        load_persons(where, CROWDPOSE),
        root / "images",
        CROWDPOSE,
        SIZE,
        Augmentation(),
        about=about,
    )
    return root


@pytest.mark.parametrize("options", [{}, {"crop": "device"}, {"resident": True}])
def test_a_pack_is_enough_to_train(packed, tmp_path, options, make_data, splits):
    plain = run(make_data(packed), 2, tmp_path)
    validation = {image["file_name"] for image in images_of(splits(packed)["val"])}
    for image in (packed / "images").iterdir():
        if image.name not in validation:
            image.unlink()
    seen = run(make_data(packed, pack="auto", **options), 2, tmp_path)
    assert [part[:2] for part in seen] == [part[:2] for part in plain]
    sums = [np.array([view for *_, views in part for view in views]) for part in (plain, seen)]
    assert np.abs(sums[0] / sums[1] - 1).max() < 0.03


def images_of(split):
    return json.loads(Path(split["annotations"]).read_text())["images"]


def test_packs_named_and_missing(packed, crowd, tmp_path, make_data, ready_data, splits):
    assert isinstance(ready_data(packed, pack="auto").datasets["train"].pixels, Pack)
    assert isinstance(ready_data(packed, pack="auto").datasets["val"].pixels, ImageFiles)
    assert isinstance(ready_data(packed).datasets["train"].pixels, ImageFiles)
    assert isinstance(
        ready_data(crowd, pack="auto").datasets["train"].pixels, ImageFiles
    )  # none there
    there = str(default_folder(splits(packed)["train"]["annotations"], SIZE))
    with pytest.raises(ValueError, match=r"was made of .*trainval.json, and .* differs"):
        ready_data(crowd, pack=there, **{"train": splits(packed)["val"]})
    with pytest.raises(FileNotFoundError, match=rf"no pack at {tmp_path} \(from data.pack\)"):
        ready_data(crowd, pack=str(tmp_path))
    with pytest.raises(ValueError, match=r"data\.resident needs packed crops"):
        run(make_data(crowd, resident=True), 1, tmp_path)
