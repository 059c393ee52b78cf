import functools
import json
from pathlib import Path

import pytest
import torch

from kdpose.data.annotations import load_persons
from kdpose.data.datamodule import EpochSampler
from kdpose.data.transforms import Augmentation
from kdpose.skeletons.known import COCO, CROWDPOSE


def test_batches(crowd, ready_data):
    data = ready_data(crowd, teacher_size=(96, 128))
    train, val = next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))
    for batch in (train, val):
        assert batch.image.shape == (4, 3, 64, 48)
        assert batch.joints.shape == (4, 14, 2)
    assert train.teacher_image.shape == (4, 3, 128, 96)
    assert val.teacher_image is None
    assert val.person.tolist() == [0, 1, 2, 3]  # in file order, none augmented
    assert data.datasets["val"].augmentation is None
    assert data.datasets["train"].augmentation == Augmentation()


def test_validation_holds_everybody_once(crowd, ready_data, splits):
    data = ready_data(crowd)
    persons = load_persons(splits(crowd)["val"]["annotations"], CROWDPOSE)
    rows = torch.cat([batch.person for batch in data.val_dataloader()])
    ids = torch.cat([batch.image_id for batch in data.val_dataloader()])
    assert rows.tolist() == list(range(len(persons)))
    assert ids.tolist() == persons.image_id.tolist()


@pytest.mark.parametrize("batch_size", [1, 3, 10_000])
def test_training_batches_are_full_unless_there_is_but_one(crowd, batch_size, ready_data):
    data = ready_data(crowd, batch_size=batch_size)
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


def test_workers_change_nothing(crowd, ready_data):
    alone = ready_data(crowd)
    helped = ready_data(crowd, num_workers=2)
    pairs = zip(alone.train_dataloader(), helped.train_dataloader(), strict=True)
    for a, b in pairs:
        assert torch.equal(a.person, b.person)
        assert torch.equal(a.image, b.image)


def test_detected_boxes(crowd, tmp_path, ready_data, splits):
    where = splits(crowd)["val"]["annotations"]
    images = json.loads(Path(where).read_text())["images"]
    boxes = [
        {"image_id": image["id"], "category_id": 1, "bbox": [5, 6, 30, 40], "score": 0.5}
        for image in images[:3]
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    data = ready_data(crowd, boxes=str(path))
    assert len(data.datasets["train"]) == len(ready_data(crowd).datasets["train"])
    (batch,) = data.val_dataloader()
    assert batch.image_id.tolist() == [image["id"] for image in images[:3]]
    assert batch.box_score.tolist() == [0.5] * 3
    assert batch.center.tolist() == [[20, 26]] * 3
    assert not batch.visible.any()


def test_boxes_of_other_images(crowd, tmp_path, ready_data):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([{"image_id": 1, "bbox": [5, 6, 30, 40], "score": 0.5}]))
    with pytest.raises(ValueError, match=r"0 of 1 boxes of .* \(from boxes\) lie in the 6 images"):
        ready_data(crowd, boxes=str(path))
    with pytest.raises(FileNotFoundError, match=r"none.json \(from boxes\)"):
        ready_data(crowd, boxes=str(tmp_path / "none.json"))


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
def test_missing_files_name_their_key(crowd, error, options, match, ready_data, splits):
    with pytest.raises(error, match=match):
        ready_data(crowd, **splits(crowd, **options))


def test_another_skeleton(crowd, ready_data):
    with pytest.raises(ValueError, match="has 14 joints per person and skeleton 'coco' has 17"):
        ready_data(crowd, skeleton=COCO)


def test_a_data_set_is_prepared_only_where_it_is_missing(crowd, tmp_path, make_data):
    calls = []
    prepare = functools.partial(calls.append, "made")
    make_data(crowd, prepare=prepare).prepare_data()
    assert calls == []
    make_data(tmp_path, prepare=prepare).prepare_data()
    assert calls == ["made"]
    make_data(tmp_path).prepare_data()
