from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdpose.deploy import parity
from kdpose.deploy.parity import (
    Parity,
    average_precision,
    compare,
    latency,
    read_crops,
    run,
    undecided,
)
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import CROWDPOSE
from kdpose.types import SimCCLogits


def read(crowd, persons, split="test"):
    annotations = f"{crowd}/annotations/crowdpose_{split}.json"
    return read_crops(
        annotations, f"{crowd}/images", "crowdpose", CROWDPOSE, (48, 64), persons, "gate"
    )


def test_whole_images_until_there_are_enough_persons(crowd):
    few, everyone = read(crowd, 1), read(crowd, 10_000)
    first = few.batch.image_id.unique()
    assert len(first) == 1
    assert first[0] == everyone.batch.image_id[0]
    assert len(few) == (everyone.batch.image_id == first[0]).sum()
    assert len(everyone.batch.image_id.unique()) == 6
    assert few.pixels.shape == (len(few), 3, 64, 48)
    assert few.pixels.dtype == np.uint8
    np.testing.assert_array_equal(few.pixels, everyone.pixels[: len(few)])


def test_missing_files_are_named(crowd):
    with pytest.raises(FileNotFoundError, match=r"no annotations at .* \(from gate.annotations\)"):
        read(crowd, 1, "nowhere")


def test_the_labels_themselves_score_100(crowd):
    crops = read(crowd, 10_000)
    joints = crops.batch.joints.numpy()
    scores = np.ones(joints.shape[:2], np.float32)
    assert average_precision(crops, joints, scores) == pytest.approx(100)
    assert average_precision(crops, joints + 30, scores) < 20


def test_compare_by_hand(crowd):
    crops = read(crowd, 10_000)
    truth, starts = crops.batch.joints.numpy(), iter(range(0, len(crops), 8))
    scores = np.ones(truth.shape[:2], np.float32)

    def perfect(pixels):
        return perfect.rows(pixels, truth)

    def shifted(pixels):
        moved = truth.copy()
        moved[1, 2] += (3, -4)
        return perfect.rows(pixels, moved)

    def rows(pixels, joints):  # find the crops again by their pixels
        same = [np.flatnonzero((crops.pixels == p).all((1, 2, 3)))[0] for p in pixels]
        return joints[same], scores[same]

    perfect.rows = rows
    assert next(starts) == 0
    ties = np.zeros(scores.shape, bool)
    parity = compare(perfect, shifted, crops, ties)
    assert (parity.persons, parity.joints, parity.ties) == (len(crops), scores.size, 0)
    assert parity.max_px == pytest.approx(5)
    assert parity.mean_px == pytest.approx(5 / truth[..., 0].size)
    assert parity.ap_torch == pytest.approx(100)
    assert parity.ap_file <= 100
    ties[1, 2] = True
    parity = compare(perfect, shifted, crops, ties)
    assert (parity.ties, parity.max_px) == (1, 0)
    assert parity.ties_px == pytest.approx(5)
    assert parity.mean_px > 0


class Bins:
    """A network whose logits are given; what decides ties."""

    def __init__(self, x, y):
        self.x, self.y = torch.tensor(x), torch.tensor(y)

    def logits(self, image):
        count = len(image)
        x, y = (a.expand(count, *a.shape) for a in (self.x, self.y))
        return SimCCLogits(x, y)


def test_ties_by_hand(crowd):
    clear, tied = [0.0, 2.0, 1.0], [2.0, 2.0 - 5e-5, 0.0]
    net = PoseNet.__new__(PoseNet)
    bins = Bins([clear, tied, clear], [clear, clear, tied])
    object.__setattr__(net, "logits", bins.logits)
    crops = read(crowd, 1)
    assert undecided(net, crops).tolist() == [[False, True, True]] * len(crops)


def test_a_tie_spreads_over_a_refined_person(loaded, crowd):
    crops = read(crowd, 10_000)
    own = undecided(loaded.net.student, crops)
    spread = undecided(loaded.net, crops)
    assert own.shape == (len(crops), 14)
    assert 0 <= own.sum() < 0.2 * own.size
    np.testing.assert_array_equal(spread, np.repeat(own.any(1, keepdims=True), 14, 1))


def test_run_joins_batches_in_order(crowd):
    crops = read(crowd, 10_000)

    def brightness(pixels):
        mean = pixels.mean((1, 2, 3))
        return mean[:, None, None].repeat(2, -1), mean[:, None]

    joints, scores = run(brightness, crops, batch_size=3)
    np.testing.assert_allclose(scores[:, 0], crops.pixels.mean((1, 2, 3)))
    assert joints.shape == (len(crops), 1, 2)


def test_budgets():
    parity = Parity(
        persons=9,
        joints=90,
        ties=45,
        ties_px=3,
        max_px=0.04,
        mean_px=0.01,
        ap_torch=50.0,
        ap_file=49.296,
    )
    assert parity.ap_loss == 0.7
    assert parity.beyond(0.05, 0.7) == []
    assert parity.beyond(None, None) == []
    assert parity.beyond(0.03, 0.5) == [
        "a joint moves by 0.040 px (budget 0.03 px)",
        "AP drops by 0.70 (budget 0.5)",
    ]
    unsure = Parity(
        persons=9, joints=90, ties=46, ties_px=0, max_px=0, mean_px=0, ap_torch=1, ap_file=1
    )
    assert unsure.beyond(0.05, None) == ["46 of 90 joints have near-tied top bins in PyTorch"]
    assert unsure.beyond(None, 0.5) == []
    untrained = Parity(
        persons=9, joints=90, ties=0, ties_px=0, max_px=80, mean_px=9, ap_torch=0, ap_file=0
    )
    assert untrained.beyond(None, 0.5) == ["PyTorch's own AP is 0.00, too low to show a loss"]
    assert untrained.beyond(90, 0.0) == []  # pixels show it
    better = Parity(
        persons=9, joints=90, ties=45, ties_px=0, max_px=1, mean_px=1, ap_torch=50, ap_file=51
    )
    assert better.beyond(None, 0.0) == []


def test_latency_by_hand(monkeypatch):
    """Three rounds in turn after a warm-up; the clock moves only while a network runs."""
    seconds = iter([9.0, 9.0, 0.04, 0.01, 0.06, 0.01, 0.04, 0.02])  # the first two are the warm-up
    now, calls = [0.0], []
    monkeypatch.setattr(parity, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def network(name):
        def run(pixels):
            calls.append(name)
            now[0] += next(seconds)

        return run

    times = latency(network("torch"), network("file"), np.zeros((2, 3, 4, 4), np.uint8), rounds=3)
    assert calls == ["torch", "file"] * 4
    assert times == pytest.approx(
        {"torch_ms": 20, "file_ms": 5, "speedup": 4, "speedup_min": 2, "speedup_max": 6}
    )


def test_real_photographs(real_data):
    root = real_data / "crowdpose"
    crops = read_crops(
        root / "annotations" / "test_crowdpose.json",
        root / "images",
        "crowdpose",
        CROWDPOSE,
        (48, 64),
        100,
        "gate",
    )
    joints = crops.batch.joints.numpy()
    scores = np.ones(joints.shape[:2], np.float32)
    assert len(crops) > 2
    assert average_precision(crops, joints, scores) == pytest.approx(100)
