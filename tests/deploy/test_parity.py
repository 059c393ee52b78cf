from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kdpose.deploy import parity
from kdpose.deploy.parity import (
    Budgets,
    Parity,
    compare,
    drawn_joints,
    latency,
    run,
    undecided,
)
from kdpose.pose_net import PoseNet
from kdpose.types import SimCCLogits


class Poses:
    """A network that knows the crops by their pixels and says given joints."""

    def __init__(self, crops, joints, scores=None):
        self.crops, self.joints = crops, joints
        self.scores = np.ones(joints.shape[:2], np.float32) if scores is None else scores

    def __call__(self, pixels):
        same = [np.flatnonzero((self.crops.pixels == p).all((1, 2, 3)))[0] for p in pixels]
        return self.joints[same], self.scores[same]


@pytest.fixture
def truth(everyone):
    """The labelled joints ``(N, K, 2)``, crop pixels."""
    return everyone.batch.joints.numpy()


def against(crops, truth, shift, ties=None, **options):
    """What is measured of a file that shifts PyTorch's joints."""
    ties = np.zeros(truth.shape[:2], bool) if ties is None else ties
    networks = Poses(crops, truth, **options), Poses(crops, truth + shift)
    return compare(*networks, crops, ties, least=0.3)


def test_compare_by_hand(everyone, truth):
    shift, ties = np.zeros_like(truth), np.zeros(truth.shape[:2], bool)
    shift[1, 2] = 3, -4
    parity = against(everyone, truth, shift, ties)
    assert (parity.persons, parity.joints, parity.ties) == (len(everyone), ties.size, 0)
    assert parity.max_px == pytest.approx(5)
    assert parity.mean_px == pytest.approx(5 / ties.size)
    assert (parity.median_px, parity.p95_px, parity.p95_share) == (0, 0, 0)
    assert parity.ap_torch == pytest.approx(100)
    assert parity.ap_file <= 100
    ties[1, 2:4] = True
    parity = against(everyone, truth, shift, ties)
    assert (parity.ties, parity.ties_moved, parity.max_px) == (2, 1, 0)
    assert parity.ties_px == pytest.approx(5)
    assert parity.mean_px > 0


def test_distances_in_sizes_of_the_person(everyone, truth):
    shift = np.zeros_like(truth)
    shift[..., 0] = 0.1 * everyone.extent[:, None]
    parity = against(everyone, truth, shift)
    assert parity.p95_share == pytest.approx(0.1, rel=1e-4)
    assert parity.p95_px == pytest.approx(np.percentile(shift[..., 0], 95), rel=1e-4)


FP32, INT8 = Budgets(0.05, None, 0.0), Budgets(None, 0.05, 0.5)


def test_a_bit_exact_file_passes_however_many_bins_tie(everyone, truth):
    ties = np.ones(truth.shape[:2], bool)
    parity = against(everyone, truth, np.zeros_like(truth), ties)
    assert (parity.ties, parity.ties_moved) == (ties.size, 0)
    assert parity.beyond(FP32) == []


@pytest.mark.parametrize("tied", [False, True])
def test_a_shift_fails_even_if_every_bin_ties(everyone, truth, tied):
    ties = np.full(truth.shape[:2], tied)
    shift = np.full_like(truth, 0.5)
    faults = against(everyone, truth, shift, ties).beyond(FP32)
    assert any(fault.startswith("5 % of the joints move by 0.707 px") for fault in faults)
    assert not against(everyone, truth, shift, ties).beyond(INT8)


def test_a_few_ties_that_rounding_moves_pass_and_are_counted(everyone, truth):
    shift, ties = np.zeros_like(truth), np.zeros(truth.shape[:2], bool)
    ties[0, :3], shift[0, :3] = True, 0.3
    parity = against(everyone, truth, shift, ties)
    assert parity.ties_moved == 3
    assert parity.beyond(FP32._replace(ap=None)) == []


def test_joints_that_are_not_drawn_do_not_hide_a_shift(everyone, truth):
    scores = np.full(truth.shape[:2], 0.1, np.float32)
    scores[:, :4] = 0.9
    shift = np.zeros_like(truth)
    shift[:, :4] = 0.2 * everyone.extent[:, None, None]
    parity = against(everyone, truth, shift, scores=scores)
    assert parity.drawn == 4 * len(everyone)
    assert parity.median_px > 0
    assert parity.beyond(INT8)[0].startswith("5 % of the joints move by 28.3% of the person's size")


def test_where_no_joint_would_be_drawn_all_count():
    scores = np.array([[0.1, 0.2]])
    assert drawn_joints(scores, 0.15).tolist() == [[False, True]]
    assert drawn_joints(scores, 0.3).tolist() == [[True, True]]


def test_without_labels_distances_decide(everyone, truth):
    bare = replace(everyone, labels=None)
    parity = against(bare, truth, np.zeros_like(truth))
    assert parity.ap_torch is parity.ap_file is parity.ap_loss is None
    assert parity.beyond(FP32) == []
    assert parity.beyond(Budgets(None, None, 0.5)) == [
        "there are no labels for an AP: set gate.px or gate.share"
    ]
    assert against(bare, truth, np.full_like(truth, 20)).beyond(INT8)


class Bins:
    """A network whose logits are given; what decides ties."""

    def __init__(self, x, y):
        self.x, self.y = torch.tensor(x), torch.tensor(y)

    def logits(self, image):
        count = len(image)
        x, y = (a.expand(count, *a.shape) for a in (self.x, self.y))
        return SimCCLogits(x, y)


def test_ties_by_hand(everyone):
    clear, tied = [0.0, 2.0, 1.0], [2.0, 2.0 - 5e-5, 0.0]
    net = PoseNet.__new__(PoseNet)
    bins = Bins([clear, tied, clear], [clear, clear, tied])
    object.__setattr__(net, "logits", bins.logits)
    crops = everyone
    assert undecided(net, crops).tolist() == [[False, True, True]] * len(crops)


def test_ties_of_heatmaps_by_hand(everyone):
    maps = torch.rand(4, 3, 2) * 0.1
    maps[0, 1, 1] = 3.0
    maps[1, 0, 0], maps[1, 2, 1] = 3.0, 3.0 - 1e-5
    maps[2, 0, 0], maps[2, 2, 1] = 3.0, 3.0 - 1e-3
    maps[3] = -1.0
    net = PoseNet.__new__(PoseNet)
    object.__setattr__(net, "logits", lambda image: maps.expand(len(image), 4, 3, 2))
    assert undecided(net, everyone).tolist() == [[False, True, False, True]] * len(everyone)


def test_a_tie_spreads_over_a_refined_person(loaded, everyone):
    crops = everyone
    own = undecided(loaded.net.student, crops)
    spread = undecided(loaded.net, crops)
    assert own.shape == (len(crops), 14)
    assert 0 <= own.sum() < 0.2 * own.size
    np.testing.assert_array_equal(spread, np.repeat(own.any(1, keepdims=True), 14, 1))


def test_run_joins_batches_in_order(everyone):
    crops = everyone

    def brightness(pixels):
        mean = pixels.mean((1, 2, 3))
        return mean[:, None, None].repeat(2, -1), mean[:, None]

    joints, scores = run(brightness, crops, batch_size=3)
    np.testing.assert_allclose(scores[:, 0], crops.pixels.mean((1, 2, 3)))
    assert joints.shape == (len(crops), 1, 2)


SAME = Parity(
    persons=200,
    joints=2800,
    drawn=2800,
    ties=0,
    ties_moved=0,
    ties_px=0,
    max_px=0,
    mean_px=0,
    median_px=0,
    p95_px=0,
    p95_share=0,
    ap_torch=50.0,
    ap_file=50.0,
)


def test_budgets():
    parity = replace(SAME, max_px=0.04, p95_px=0.02, p95_share=0.03, ap_file=49.296)
    assert parity.ap_loss == 0.7
    assert parity.beyond(Budgets(0.05, 0.03, 0.7)) == []
    assert parity.beyond(Budgets(0.03, 0.01, 0.5)) == [
        "a joint moves by 0.040 px (budget 0.03 px)",
        "5 % of the joints move by 3.0% of the person's size (budget 1.0%)",
        "AP drops by 0.70 (budget 0.5, one step is 0.05)",
    ]
    assert parity.beyond(Budgets(0.05, None, 0.7)) == []
    nothing = ["nothing is compared: set gate.px, gate.share or gate.ap"]
    assert parity.beyond(Budgets(None, None, None)) == nothing
    undecided = replace(SAME, ties=900, ties_moved=700, ties_px=3.0, p95_px=2.0)
    assert undecided.beyond(Budgets(0.05, None, None)) == [
        "5 % of the joints move by 2.000 px (budget 0.05 px; 700 of them are near-tied)"
    ]


def test_an_ap_that_cannot_show_a_loss():
    untrained = replace(SAME, max_px=80, p95_share=0.5, ap_torch=0.0, ap_file=0.0)
    assert untrained.beyond(Budgets(None, None, 0.5)) == [
        "PyTorch's own AP is 0.00, too low to show a loss"
    ]
    assert untrained.beyond(Budgets(90, None, 0.0)) == []  # pixels show it
    assert untrained.beyond(Budgets(None, 0.6, 0.5)) == []  # so do shares
    assert replace(SAME, ap_file=51.0).beyond(Budgets(None, None, 0.0)) == []


def test_one_person_at_one_threshold_is_no_loss():
    few = replace(SAME, persons=20, ap_file=49.6)
    assert few.beyond(FP32) == []
    assert few.ap_step == 0.5
    assert replace(few, ap_file=49.4).beyond(FP32) == [
        "AP drops by 0.60 (budget 0.0, one step is 0.5)"
    ]


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
