import shutil

import numpy as np
import pytest

from kdpose.deploy.crops import labelled_crops, unlabelled_crops
from kdpose.skeletons.skeleton import Skeleton


def read(crowd, net, persons, split="test"):
    annotations = f"{crowd}/annotations/crowdpose_{split}.json"
    return labelled_crops(annotations, f"{crowd}/images", "crowdpose", net, persons, "gate")


def test_whole_images_until_there_are_enough_persons(crowd, loaded, everyone):
    few = read(crowd, loaded.net, 1)
    first = few.batch.image_id.unique()
    assert len(first) == 1
    assert first[0] == everyone.batch.image_id[0]
    assert len(few) == (everyone.batch.image_id == first[0]).sum()
    assert len(everyone.batch.image_id.unique()) == 6
    assert few.pixels.shape == (len(few), 3, 64, 48)
    assert few.pixels.dtype == np.uint8
    np.testing.assert_array_equal(few.pixels, everyone.pixels[: len(few)])


def test_missing_files_are_named(crowd, loaded):
    with pytest.raises(FileNotFoundError, match=r"no annotations at .* \(from gate.annotations\)"):
        read(crowd, loaded.net, 1, "nowhere")


def test_the_labels_themselves_score_100(everyone):
    joints = everyone.batch.joints.numpy()
    scores = np.ones(joints.shape[:2], np.float32)
    assert everyone.average_precision(joints, scores) == pytest.approx(100)
    assert everyone.average_precision(joints + 30, scores) < 20


def test_extent_is_the_root_of_the_box_in_crop_pixels(everyone):
    width, height = 48, 64
    shorter = everyone.extent < np.sqrt(width * height) / 1.25 + 1e-3  # of a box padded by 1.25
    assert shorter.all()
    assert everyone.extent.max() > 30


def with_names(net, names):
    """A stand-in for a network with other joints."""
    skeleton = Skeleton("other", tuple(names), (), (0.05,) * len(names), flip_pairs=())
    facts = {"skeleton": skeleton, "codec": net.codec, "score_threshold": net.score_threshold}
    return type("Net", (), facts)()


def test_another_skeleton_is_matched_by_name(crowd, loaded, everyone):
    names = loaded.net.skeleton.joints
    kept = [3, 0, 8, 5]
    other = with_names(loaded.net, [*(names[k] for k in kept), "tail"])
    crops = read(crowd, other, 10_000)
    np.testing.assert_array_equal(crops.pixels, everyone.pixels)
    truth = crops.batch.joints.numpy()[:, [*kept, 0]]
    scores = np.ones(truth.shape[:2], np.float32)
    assert crops.average_precision(truth, scores) == pytest.approx(100)
    mixed = crops.average_precision(truth[:, [1, 2, 3, 0, 4]], scores)
    assert mixed < 20


def test_another_body_is_refused_or_left_without_labels(crowd, loaded):
    hand = with_names(loaded.net, ("palm", "thumb", "little_finger"))
    where = f"{crowd}/annotations/crowdpose_test.json", f"{crowd}/images"
    with pytest.raises(ValueError, match="share 0 joints by name"):
        labelled_crops(*where, "crowdpose", hand, 10, "gate")
    crops = labelled_crops(*where, "crowdpose", hand, 10, "gate", other_bodies=True)
    assert crops.labels is None
    assert len(crops.sigmas) == 3
    assert crops.average_precision(np.zeros((len(crops), 3, 2)), np.ones((len(crops), 3))) is None


def test_photographs_without_labels(crowd, loaded, everyone, tmp_path):
    names = sorted(path.name for path in (crowd / "images").iterdir())[:3]
    for name in names:
        shutil.copy(crowd / "images" / name, tmp_path)
    (tmp_path / "000001.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("none either")
    boxes = np.array([[10, 5, 60, 90], [50, 20, 40, 80]], np.float32)
    seen = []

    def detect(picture):
        seen.append(picture.size)
        return boxes, np.ones(2, np.float32)

    crops = unlabelled_crops(tmp_path, loaded.net, 100, "gate", detect)
    assert seen == [(160, 120)] * 3
    assert (len(crops), crops.labels, crops.source) == (6, None, tmp_path)
    assert crops.pixels.shape == (6, 3, 64, 48)
    np.testing.assert_allclose(crops.extent[0], np.sqrt(60 * 90) * 64 / (90 * 1.25), rtol=1e-4)
    assert len(unlabelled_crops(tmp_path, loaded.net, 3, "gate", detect)) == 4  # whole pictures


def test_photographs_that_show_nobody(crowd, loaded, tmp_path):
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    images = crowd / "images"
    with pytest.raises(ValueError, match=r"the detector finds nobody .* \(gate.images\)"):
        unlabelled_crops(images, loaded.net, 9, "gate", lambda picture: nobody)
    with pytest.raises(ValueError, match=r"no image in .* \(from gate.images\)"):
        unlabelled_crops(tmp_path, loaded.net, 9, "gate", lambda picture: nobody)
    with pytest.raises(FileNotFoundError, match=r"no image folder at .* \(from gate.images\)"):
        unlabelled_crops("/nowhere", loaded.net, 9, "gate", lambda picture: nobody)


def test_real_photographs(real_data, loaded):
    root = real_data / "crowdpose"
    crops = labelled_crops(
        root / "annotations" / "test_crowdpose.json",
        root / "images",
        "crowdpose",
        loaded.net,
        100,
        "gate",
    )
    joints = crops.batch.joints.numpy()
    scores = np.ones(joints.shape[:2], np.float32)
    assert len(crops) > 2
    assert crops.average_precision(joints, scores) == pytest.approx(100)
