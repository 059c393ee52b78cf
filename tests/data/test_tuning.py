"""The tuning part: whole images, never trained on, the same for the same seed."""

import json
from pathlib import Path

import numpy as np
import pytest

from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.tuning import held_out, tuning_split
from kdpose.skeletons.known import CROWDPOSE


@pytest.fixture
def train(crowd):
    return {
        "annotations": str(crowd / "annotations/crowdpose_trainval.json"),
        "images": str(crowd / "images"),
    }


def test_a_share_of_the_images_with_all_their_persons(train, tmp_path):
    whole = json.loads(Path(train["annotations"]).read_text())
    split = tuning_split(train, 0.25, 0, tmp_path)
    part = json.loads(Path(split["annotations"]).read_text())
    ids = {image["id"] for image in part["images"]}
    labelled = {person["image_id"] for person in whole["annotations"]}
    assert len(ids) == round(0.25 * len(labelled))
    assert part["annotations"] == [p for p in whole["annotations"] if p["image_id"] in ids]
    assert part["categories"] == whole["categories"]
    assert split["images"] == train["images"]
    assert set(held_out(split)) == ids


def test_the_seed_decides(train, tmp_path):
    first, again, other = (tuning_split(train, 0.25, seed, tmp_path) for seed in (0, 0, 1))
    assert first == again
    assert set(held_out(first)) != set(held_out(other))


@pytest.mark.parametrize("share", [0, -0.1, 0.6, 1])
def test_a_share_out_of_range_is_refused(train, tmp_path, share):
    with pytest.raises(ValueError, match=r"dataset\.tune must be a share in \(0, 0\.5\]"):
        tuning_split(train, share, 0, tmp_path)


def test_several_training_sets_are_refused(train, tmp_path):
    with pytest.raises(ValueError, match="lists several"):
        tuning_split([train, train], 0.1, 0, tmp_path)


@pytest.mark.parametrize("boxes", ["gt", "detections.json"])
def test_held_out_images_validate_and_are_not_trained_on(train, crowd, tmp_path, boxes):
    val = {
        "annotations": str(crowd / "annotations/crowdpose_test.json"),
        "images": str(crowd / "images"),
    }
    data = CocoKeypointDataModule(
        train,
        val,
        CROWDPOSE,
        "crowdpose",
        (48, 64),
        batch_size=4,
        num_workers=0,
        boxes=boxes,
        tune=tuning_split(train, 0.25, 0, tmp_path),
    )
    data.setup("fit")
    held = set(held_out(data.splits["val"]))

    trained = np.concatenate([batch.image_id for batch in data.train_dataloader()])
    validated = np.concatenate([batch.image_id for batch in data.val_dataloader()])

    assert set(validated) == held
    assert not set(trained) & held
    everybody = len(data.datasets["train"])
    assert len(trained) == (everybody - len(validated)) // 4 * 4


def test_streamed_crops_cannot_leave_any_out(train, tmp_path):
    with pytest.raises(ValueError, match=r"needs dataset\.tune=null"):
        CocoKeypointDataModule(train, train, CROWDPOSE, "coco", (48, 64), shards="x", tune=train)
