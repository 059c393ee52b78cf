import functools
import json
import shutil
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from kdpose.data.annotations import load_persons
from kdpose.data.datamodule import CocoKeypointDataModule, EpochSampler
from kdpose.data.sources.images import ImageFiles
from kdpose.data.sources.packed import Pack, default_folder
from kdpose.data.sources.packing import write_pack
from kdpose.data.transforms import Augmentation
from kdpose.metrics.pose_results import PoseResults
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE = (48, 64)


def splits(root, train="crowdpose_trainval.json", val="crowdpose_test.json", images="images"):
    return {
        name: {"annotations": str(root / "annotations" / file), "images": str(root / images)}
        for name, file in (("train", train), ("val", val))
    }


def make(root, **options):
    values = {
        **splits(root),
        "skeleton": CROWDPOSE,
        "protocol": "crowdpose",
        "input_size": SIZE,
        "batch_size": 4,
        "num_workers": 0,
    }
    return CocoKeypointDataModule(**{**values, **options})


def ready(root, **options):
    data = make(root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def truth(data, batches):
    """The labels themselves, as a network would predict them."""
    results = PoseResults(data.input_size)
    for b in batches:
        results.update(
            b.image_id, b.person, b.joints, b.visible.clamp(0.1, 1), b.box_score, b.center, b.size
        )
    return results.compute()


def test_batches(crowd):
    data = ready(crowd, teacher_size=(96, 128))
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    for batch in (train, val):
        assert batch.image.shape == (4, 3, 64, 48)
        assert batch.joints.shape == (4, 14, 2)
    assert train.teacher_image.shape == (4, 3, 128, 96)
    assert val.teacher_image is None
    assert val.person.tolist() == [0, 1, 2, 3]  # in file order, none augmented
    assert data.datasets["val"].augmentation is None
    assert data.datasets["train"].augmentation == Augmentation()


def test_validation_holds_everybody_once(crowd):
    data = ready(crowd)
    persons = load_persons(splits(crowd)["val"]["annotations"], CROWDPOSE)
    rows = torch.cat([batch.person for batch in data.val_dataloader()])
    ids = torch.cat([batch.image_id for batch in data.val_dataloader()])
    assert rows.tolist() == list(range(len(persons)))
    assert ids.tolist() == persons.image_id.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
def test_training_batches_are_full_unless_there_is_but_one(crowd, batch_size):
    data = ready(crowd, batch_size=batch_size)
    count, loader = len(data.datasets["train"]), data.train_dataloader()
    assert len(loader) == max(1, count // batch_size)
    assert len(next(iter(loader)).image) == min(count, batch_size)


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_order_depends_on_seed_and_epoch_alone():
    data = list(range(50))
    first = EpochSampler(data, 1, 0, shuffle=True, seed=1)
    again = EpochSampler(data, 1, 0, shuffle=True, seed=1)
    other = EpochSampler(data, 1, 0, shuffle=True, seed=2)
    torch.manual_seed(0)
    orders = [epoch_of(first, epoch) for epoch in (0, 1, 2)]
    torch.manual_seed(1)
    assert epoch_of(again, 2) == orders[2]
    assert epoch_of(again, 0) == orders[0]
    for epoch, order in enumerate(orders):
        assert {e for e, _ in order} == {epoch}
        assert sorted(row for _, row in order) == data
        assert [row for _, row in order] != data
    rows = [[row for _, row in order] for order in orders]
    assert rows[0] != rows[1] != rows[2] != rows[0]
    assert epoch_of(other, 0) != orders[0]


@pytest.mark.parametrize("count", [50, 51])
def test_ranks_share_the_persons(count):
    samplers = [EpochSampler(range(count), 2, rank, shuffle=True, seed=0) for rank in (0, 1)]
    parts = [[row for _, row in epoch_of(sampler, 3)] for sampler in samplers]
    assert len(parts[0]) == len(parts[1]) == -(-count // 2)
    assert set(parts[0]) | set(parts[1]) == set(range(count))
    assert len(set(parts[0]) & set(parts[1])) == count % 2  # padded so that both step as often


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


def test_a_resumed_run_sees_what_a_whole_one_sees(crowd, tmp_path):
    whole = run(make(crowd), 3, tmp_path)
    assert [epoch for epoch, *_ in whole] == sorted(epoch for epoch, *_ in whole)
    by_epoch = [[rows for e, rows, _ in whole if e == epoch] for epoch in range(3)]
    assert by_epoch[0] != by_epoch[1] != by_epoch[2]  # Lightning has called set_epoch
    begun = run(make(crowd), 1, tmp_path)
    resumed = run(make(crowd), 3, tmp_path, tmp_path / "last.ckpt")
    assert begun + resumed == whole


def test_crops_cut_on_the_device_train_alike(crowd, tmp_path):
    host, device = (run(make(crowd, crop=where), 2, tmp_path) for where in ("host", "device"))
    assert [seen[:2] for seen in host] == [seen[:2] for seen in device]
    sums = [np.array([view for *_, views in seen for view in views]) for seen in (host, device)]
    assert np.abs(sums[0] - sums[1]).max() < 3 * SIZE[0] * SIZE[1]  # below 1 a pixel
    with pytest.raises(ValueError, match=r"data\.crop must be auto, host or device, got gpu"):
        make(crowd, crop="gpu")


@pytest.fixture
def packed(crowd, tmp_path):
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
def test_a_pack_is_enough_to_train(packed, tmp_path, options):
    plain = run(make(packed), 2, tmp_path)
    validation = {image["file_name"] for image in images_of(packed, "val")}
    for image in (packed / "images").iterdir():
        if image.name not in validation:
            image.unlink()
    seen = run(make(packed, pack="auto", **options), 2, tmp_path)
    assert [part[:2] for part in seen] == [part[:2] for part in plain]
    sums = [np.array([view for *_, views in part for view in views]) for part in (plain, seen)]
    assert np.abs(sums[0] / sums[1] - 1).max() < 0.03


def images_of(root, split):
    return json.loads(Path(splits(root)[split]["annotations"]).read_text())["images"]


def test_packs_named_and_missing(packed, crowd, tmp_path):
    assert isinstance(ready(packed, pack="auto").datasets["train"].pixels, Pack)
    assert isinstance(ready(packed, pack="auto").datasets["val"].pixels, ImageFiles)
    assert isinstance(ready(packed).datasets["train"].pixels, ImageFiles)
    assert isinstance(ready(crowd, pack="auto").datasets["train"].pixels, ImageFiles)  # none there
    there = str(default_folder(splits(packed)["train"]["annotations"], SIZE))
    with pytest.raises(ValueError, match=r"was made of .*trainval.json, and .* differs"):
        ready(crowd, pack=there, **{"train": splits(packed)["val"]})
    with pytest.raises(FileNotFoundError, match=rf"no pack at {tmp_path} \(from data.pack\)"):
        ready(crowd, pack=str(tmp_path))
    with pytest.raises(ValueError, match=r"data\.resident needs packed crops"):
        run(make(crowd, resident=True), 1, tmp_path)


def test_workers_change_nothing(crowd):
    alone = ready(crowd)
    helped = ready(crowd, num_workers=2)
    pairs = zip(alone.train_dataloader(), helped.train_dataloader(), strict=True)
    for a, b in pairs:
        assert torch.equal(a.person, b.person)
        assert torch.equal(a.image, b.image)


def test_perfect_poses_score_one(crowd):
    data = ready(crowd)
    scores = data.score(truth(data, data.val_dataloader()))
    assert scores["AP"] == pytest.approx(1, abs=0.02)
    assert set(scores) >= {"AP", "AR", "AP_easy", "AP_hard"}


def test_a_part_is_scored_on_its_own_images(crowd):
    data = ready(crowd, batch_size=1)
    loader = data.val_dataloader()
    first = next(iter(loader)).image_id.item()
    part = [batch for batch in loader if batch.image_id.item() == first]
    assert 0 < len(part) < len(loader)
    assert data.score(truth(data, part))["AP"] == pytest.approx(1, abs=0.02)


def test_weak_joints_count_for_a_person_s_score_as_the_codec_says(crowd, monkeypatch):
    data = ready(crowd)
    asked = []
    monkeypatch.setattr(
        "kdpose.data.datamodule.to_results",
        lambda predictions, sigmas, threshold: asked.append(threshold) or [],
    )
    monkeypatch.setattr("kdpose.data.datamodule.keypoint_ap", lambda *_, **__: {})
    data.score(truth(data, data.val_dataloader()), 0.2)
    assert asked == [0.2]


def test_poses_off_by_a_person_score_nothing(crowd):
    data = ready(crowd)
    batches = [b._replace(joints=b.joints + 40) for b in data.val_dataloader()]
    assert data.score(truth(data, batches))["AP"] < 0.05


def test_detected_boxes(crowd, tmp_path):
    where = splits(crowd)["val"]["annotations"]
    images = json.loads(Path(where).read_text())["images"]
    boxes = [
        {"image_id": image["id"], "category_id": 1, "bbox": [5, 6, 30, 40], "score": 0.5}
        for image in images[:3]
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    data = ready(crowd, boxes=str(path))
    assert len(data.datasets["train"]) == len(ready(crowd).datasets["train"])
    (batch,) = data.val_dataloader()
    assert batch.image_id.tolist() == [image["id"] for image in images[:3]]
    assert batch.box_score.tolist() == [0.5] * 3
    assert batch.center.tolist() == [[20, 26]] * 3
    assert not batch.visible.any()


def test_images_without_a_detection_count_as_missed(crowd, tmp_path):
    every = ready(crowd, batch_size=1)
    ids = sorted({batch.image_id.item() for batch in every.val_dataloader()})[:2]
    part = [batch for batch in every.val_dataloader() if batch.image_id.item() in ids]
    boxes = [{"image_id": b.image_id.item(), "bbox": [5, 6, 30, 40]} for b in part]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    data = ready(crowd, boxes=str(path))
    assert len(data.datasets["val"]) == len(part)
    recall = data.score(truth(data, part))["AR"]
    assert 0 < recall < 0.8
    assert every.score(truth(every, part))["AR"] == pytest.approx(1, abs=0.02)  # merely unfinished


def test_boxes_of_other_images(crowd, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([{"image_id": 1, "bbox": [5, 6, 30, 40], "score": 0.5}]))
    with pytest.raises(ValueError, match=r"0 of 1 boxes of .* \(from boxes\) lie in the 6 images"):
        ready(crowd, boxes=str(path))
    with pytest.raises(FileNotFoundError, match=r"none.json \(from boxes\)"):
        ready(crowd, boxes=str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("error", "options", "match"),
    [
        (FileNotFoundError, {"train": "a.json"}, r"a.json \(from dataset.train.annotations\)"),
        (FileNotFoundError, {"val": "a.json"}, r"a.json \(from dataset.val.annotations\)"),
        (
            FileNotFoundError,
            {"images": "b"},
            r"no image folder at .*/b \(from dataset.train.images",
        ),
    ],
)
def test_missing_files_name_their_key(crowd, error, options, match):
    with pytest.raises(error, match=match):
        ready(crowd, **splits(crowd, **options))


def test_another_skeleton(crowd):
    with pytest.raises(ValueError, match="has 14 joints per person and skeleton 'coco' has 17"):
        ready(crowd, skeleton=COCO)


def test_a_data_set_is_prepared_only_where_it_is_missing(crowd, tmp_path):
    calls = []
    prepare = functools.partial(calls.append, "made")
    make(crowd, prepare=prepare).prepare_data()
    assert calls == []
    make(tmp_path, prepare=prepare).prepare_data()
    assert calls == ["made"]
    make(tmp_path).prepare_data()


def test_coco_mini(real_data):
    root = real_data / "coco_mini"
    files = {
        split: {
            "annotations": str(root / "annotations" / f"person_keypoints_{split}2017.json"),
            "images": str(root / f"{split}2017"),
        }
        for split in ("train", "val")
    }
    data = ready(root, **files, skeleton=COCO, protocol="coco", batch_size=16)
    assert [len(data.datasets[split]) for split in ("train", "val")] == [86, 68]
    assert len(data.train_dataloader()) == 5
    predictions = truth(data, data.val_dataloader())
    scores = data.score(predictions)
    assert scores["AP"] == pytest.approx(1, abs=0.02)
    assert np.abs(predictions.keypoints).max() < 1000
