"""Stored answers meet their persons, data sets meet one skeleton, and both go through one crop."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset
from kdpose.data.taught import attach, describe, load_training
from kdpose.data.transforms import Augmentation
from kdpose.skeletons.known import COCO, CROWDPOSE

SIZE = (96, 128)
K = len(COCO)


def write(folder, skeleton, persons, name="set"):
    """An annotation file of ``(image, box, keypoints or None)``, one 200 x 160 picture an image."""
    images = sorted({image for image, _, _ in persons})
    (folder / name).mkdir()
    for image in images:
        Image.new("RGB", (200, 160)).save(folder / name / f"{image}.png")
    category = {"id": 1, "name": "person"}
    if skeleton is not None:
        category |= {"keypoints": list(skeleton.joints)}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 160} for i in images],
        "categories": [category],
        "annotations": [
            {"id": 10 + n, "image_id": image, "bbox": box, "category_id": 1}
            | ({} if points is None else {"keypoints": points})
            for n, (image, box, points) in enumerate(persons)
        ],
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return {"annotations": str(path), "images": str(folder / name)}


def points(count, start, score=2.0):
    """Triplets of joints in a row, all of one v or score."""
    return [v for k in range(count) for v in (start + 3 * k, start + 2 * k, score)]


def answer(image, box, start, score=0.9, **more):
    return {"image_id": image, "bbox": box, "keypoints": points(K, start, score), **more}


def save(folder, results, name="answers.json"):
    (folder / name).write_text(json.dumps(results))
    return str(folder / name)


LEFT, RIGHT = [10, 10, 60, 80], [120, 20, 60, 80]


def test_answers_find_their_persons_by_id_and_by_overlap(tmp_path):
    part = write(tmp_path, COCO, [(1, LEFT, points(K, 20)), (1, RIGHT, points(K, 130))])
    persons = load_persons(part["annotations"], COCO)
    file = save(
        tmp_path,
        [
            answer(1, [122, 22, 58, 78], 131),  # no id: it overlaps the second
            answer(1, RIGHT, 21, id=10),  # the id counts, not the box
            answer(2, LEFT, 0, id=11),  # an id of another file: the image differs
        ],
    )

    taught = attach(persons, file, COCO, COCO)

    assert taught.taught is not None
    assert taught.taught[:, 0].tolist() == [[21, 21], [131, 131]]
    assert np.allclose(taught.taught_score, 0.9)


def test_answers_of_another_skeleton_meet_by_name(tmp_path):
    part = write(tmp_path, CROWDPOSE, [(1, LEFT, points(14, 20))])
    persons = load_persons(part["annotations"], CROWDPOSE)

    taught = attach(persons, save(tmp_path, [answer(1, LEFT, 40, id=10)]), CROWDPOSE, COCO)

    assert taught.taught is not None
    assert taught.taught_score is not None
    for k, name in enumerate(CROWDPOSE.joints):
        if name in COCO.joints:
            number = COCO.joints.index(name)
            assert taught.taught[0, k].tolist() == [40 + 3 * number, 40 + 2 * number]
        else:  # head and neck
            assert taught.taught_score[0, k] == 0


def test_too_few_answers_are_refused_in_one_line(tmp_path):
    part = write(tmp_path, COCO, [(i, LEFT, points(K, 20)) for i in (1, 2, 3)])
    persons = load_persons(part["annotations"], COCO)
    with pytest.raises(ValueError, match="answers for 33 % of 3 persons") as refused:
        attach(persons, save(tmp_path, [answer(1, LEFT, 20)]), COCO, COCO)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("results", "says"),
    [
        ({"images": []}, "not a list of COCO keypoint results"),
        ([{"image_id": 1, "keypoints": [1, 2, 3]}], "has 1 joints and skeleton 'coco' 17"),
    ],
)
def test_a_file_that_holds_no_such_answers_is_refused(tmp_path, results, says):
    part = write(tmp_path, COCO, [(1, LEFT, points(K, 20))])
    persons = load_persons(part["annotations"], COCO)
    with pytest.raises(ValueError, match=says):
        attach(persons, save(tmp_path, results), COCO, COCO)


def mixed(folder):
    """A labelled set of CrowdPose's joints and one of boxes alone, with answers for both."""
    labelled = write(folder, CROWDPOSE, [(1, LEFT, points(14, 20))], "labelled")
    boxes = write(folder, None, [(1, RIGHT, None), (2, LEFT, None)], "boxes")
    files = [
        save(folder, [answer(1, LEFT, 22, id=10)], "a.json"),
        save(folder, [answer(1, RIGHT, 125, id=10), answer(2, LEFT, 15, 0.1, id=11)], "b.json"),
    ]
    return [labelled, boxes], files


def test_sets_of_other_joints_and_of_boxes_alone_become_one(tmp_path):
    parts, files = mixed(tmp_path)

    persons = load_training(parts, COCO, files, COCO)

    assert len(persons) == 3
    assert persons.visible.sum(axis=1).tolist() == [24, 0, 0]  # the 12 joints that both have
    wrist = COCO.joints.index("left_wrist"), CROWDPOSE.joints.index("left_wrist")
    assert persons.joints[0, wrist[0]].tolist() == [20 + 3 * wrist[1], 20 + 2 * wrist[1]]
    assert all(name.startswith(str(tmp_path)) for name in persons.files)
    told = describe(persons, COCO)
    assert "3 persons" in told
    assert "nose 0/2/0" in told  # one answer of three is too unsure
    assert "left_wrist 1/2/1" in told


def test_there_is_one_file_of_answers_for_each_set(tmp_path):
    parts, files = mixed(tmp_path)
    with pytest.raises(ValueError, match="one file of answers per training set: 2 sets, 1 files"):
        load_training(parts, COCO, files[:1], COCO)


def test_without_a_teacher_persons_of_boxes_alone_are_left_out(tmp_path):
    parts, _ = mixed(tmp_path)
    assert len(load_training(parts[:1], COCO, (), None)) == 1


@pytest.mark.parametrize("epoch", range(6))
def test_answers_go_through_the_crop_flip_and_half_body_as_labels_do(tmp_path, epoch):
    """Answers that equal the labels stay equal; persons of answers alone get half bodies too."""
    part = write(tmp_path, COCO, [(1, LEFT, points(K, 20)), (2, RIGHT, points(K, 130))])
    file = save(tmp_path, [answer(1, LEFT, 20, id=10), answer(2, RIGHT, 130, id=11)])
    persons = load_training([part], COCO, [file], COCO)
    wild = Augmentation(half_body_probability=0.5, flip_probability=0.5)
    labelled = PoseDataset(persons, "/", COCO, SIZE, augmentation=wild)
    persons.visible[:] = 0
    alone = PoseDataset(persons, "/", COCO, SIZE, augmentation=wild)

    seen, unseen = (data.__getitems__([(epoch, 0), (epoch, 1)]) for data in (labelled, alone))

    assert seen.taught is not None
    assert unseen.taught is not None
    assert torch.equal(seen.taught, seen.joints)
    assert torch.equal(unseen.taught, seen.taught)
    assert torch.equal(unseen.image, seen.image)


def test_a_spread_of_the_wrong_form_is_refused(tmp_path):
    part = write(tmp_path, COCO, [(1, LEFT, points(K, 20))])
    persons = load_persons(part["annotations"], COCO)
    for spread in ([1.0] * K, [-1.0] * 2 * K, [float("nan")] * 2 * K):
        with pytest.raises(ValueError, match="'spread' must be 34 numbers"):
            attach(persons, save(tmp_path, [answer(1, LEFT, 20, spread=spread)]), COCO, COCO)
