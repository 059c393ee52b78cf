import json
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from kdpose.metrics.pose_results import PoseResults, Predictions, to_results
from kdpose.metrics.rescoring import image_joints
from kdpose.skeletons.known import COCO, CROWDPOSE

INPUT = (192, 256)


def batch(persons, joints=14, seed=0):
    """Values that depend on the person alone, so that a person repeated is the same again."""
    rng = np.random.default_rng(seed)
    table = {
        "image_id": rng.integers(0, 5, 64) + 2**40,  # beyond what float32 and int32 can name
        "joints": rng.uniform(0, 192, (64, joints, 2)),
        "scores": rng.uniform(0, 1, (64, joints)),
        "box_score": rng.uniform(0, 1, 64),
        "center": rng.uniform(0, 500, (64, 2)),
        "size": rng.uniform(50, 400, (64, 2)),
    }
    values = {"person": torch.tensor(persons)}
    for name, column in table.items():
        value = torch.from_numpy(column[persons])
        values[name] = value if name == "image_id" else value.float()
    return values


@pytest.mark.parametrize("joints", [14, 17])
@pytest.mark.parametrize("batches", [[[7]], [[5, 3, 9], [1, 9, 5], [0]]])
def test_every_person_once_and_in_order(joints, batches):
    metric = PoseResults(INPUT)
    for persons in batches:
        metric.update(**batch(persons, joints))
    out = metric.compute()
    expected = sorted({person for persons in batches for person in persons})
    assert out.person.tolist() == expected
    assert len(out) == len(expected)
    want = {name: value.numpy() for name, value in batch(expected, joints).items()}
    np.testing.assert_array_equal(out.image_id, want["image_id"])
    np.testing.assert_array_equal(out.joint_scores, want["scores"])
    np.testing.assert_array_equal(out.box_score, want["box_score"])
    np.testing.assert_array_equal(out.area, want["size"][:, 0] * want["size"][:, 1])
    crop = (want["joints"], want["center"], want["size"])
    np.testing.assert_allclose(out.keypoints, image_joints(*crop, INPUT), rtol=1e-6)
    assert out.keypoints.shape == (len(expected), joints, 2)


def test_reset_and_nothing_added():
    metric = PoseResults(INPUT)
    metric.update(**batch([1, 2]))
    metric.reset()
    out = metric.compute()
    assert len(out) == 0
    assert out.keypoints.shape[-1] == 2
    assert to_results(out, CROWDPOSE.sigmas) == []


def test_half_precision_and_gradients_are_dropped():
    values = batch([0, 1])
    values["scores"] = values["scores"].bfloat16()
    values["joints"] = values["joints"].requires_grad_()
    metric = PoseResults(INPUT)
    metric.update(**values)
    assert not metric.joints[0].requires_grad
    assert metric.compute().joint_scores.dtype == np.float32


def test_update_names_the_odd_one():
    values = batch([0, 1, 2])
    values["scores"] = values["scores"][:2]
    with pytest.raises(ValueError, match=r"one entry per person, got .*scores \(2, 14\)"):
        PoseResults(INPUT).update(**values)


def _rank(rank, folder):
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    metric = PoseResults(INPUT)
    # Four persons on the first process and three on the second, one of which pads.
    for persons in [[[0, 2], [4, 6]], [[1, 3, 0]]][rank]:
        metric.update(**batch(persons))
    out = metric.compute()
    np.savez(folder / f"{rank}.npz", person=out.person, image_id=out.image_id, xy=out.keypoints)
    torch.distributed.destroy_process_group()


def test_two_processes_see_what_one_sees(tmp_path):
    # Forked, since importing torch anew takes longer than all other tests together.
    mp.start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    single = PoseResults(INPUT)
    single.update(**batch([0, 1, 2, 3, 4, 6]))
    want = single.compute()
    for rank in range(2):
        got = np.load(tmp_path / f"{rank}.npz")
        np.testing.assert_array_equal(got["person"], want.person)
        np.testing.assert_array_equal(got["image_id"], want.image_id)
        np.testing.assert_array_equal(got["xy"], want.keypoints)


def three_persons():
    """Persons 0 and 1 of image 8 coincide; person 2 is on image 5."""
    keypoints = np.tile(np.arange(34, dtype=np.float32).reshape(17, 2) + 1 / 3, (3, 1, 1))
    scores = np.full((3, 17), 0.5, np.float32)
    scores[:, 0] = 0.125  # below the threshold: not counted
    return Predictions(
        image_id=np.array([8, 8, 5]),
        person=np.arange(3),
        keypoints=keypoints,
        joint_scores=scores,
        box_score=np.array([0.5, 1.0, 0.25], np.float32),
        center=np.full((3, 2), 50, np.float32),
        size=np.full((3, 2), (60, 80), np.float32),
    )


def test_to_results_by_hand():
    results = to_results(three_persons(), COCO.sigmas, threshold=0.2)
    assert [(r["image_id"], r["score"]) for r in results] == [(5, 0.125), (8, 0.5)]
    first = results[0]
    assert first["keypoints"][:6] == [0.333, 1.333, 0.125, 2.333, 3.333, 0.5]
    assert len(first["keypoints"]) == 51
    assert first["region"] == [20.0, 10.0, 60.0, 80.0]
    assert first["category_id"] == 1
    assert json.loads(json.dumps(results)) == results  # plain Python values throughout


def test_nms_can_be_switched_off_and_the_best_comes_first():
    results = to_results(three_persons(), COCO.sigmas, threshold=0.2, nms=None)
    assert [r["score"] for r in results] == [0.125, 0.5, 0.25]
    none_passes = to_results(three_persons(), COCO.sigmas, threshold=0.9)
    assert {r["score"] for r in none_passes} == {0.0}


def test_results_have_no_box_that_evaluators_would_read():
    assert "bbox" not in to_results(three_persons(), COCO.sigmas)[0]


def test_wrong_number_of_sigmas():
    with pytest.raises(ValueError, match="one per joint, got 14 sigmas and 17 joints"):
        to_results(three_persons(), CROWDPOSE.sigmas)
