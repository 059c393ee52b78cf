"""SimCC's flip test."""

import pytest
import torch

from kdpose.codecs.simcc import SimCC
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import SimCCLogits

SIZE = (192, 256)
SKELETONS = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
LABELS = pytest.mark.parametrize("label", ["smooth", "gaussian"])


@SKELETONS
@pytest.mark.parametrize("split_ratio", [1.0, 2.0, 3.0])
def test_unflip_returns_every_mirrored_pixel(skeleton, split_ratio, random_joints, log_target):
    width, height = 12, 16
    codec = SimCC((width, height), split_ratio)
    for u in range(width):
        joints = random_joints(1, len(skeleton), (width, height)).round()
        joints[..., 0] = u
        mirrored = joints[:, list(skeleton.flip_order)]
        mirrored[..., 0] = width - 1 - u
        pose = codec.decode(codec.unflip(log_target(codec, mirrored), skeleton.flip_order))
        assert pose.joints.tolist() == joints.tolist()


@LABELS
def test_unflip_at_two_bins_per_pixel_is_the_reference_shift(label, random_logits):
    codec = SimCC(SIZE, label=label)
    logits = random_logits(3, 17, codec)
    got = codec.unflip(logits, COCO.flip_order)
    for k, other in enumerate(COCO.flip_order):
        reverse = logits.x[:, other].flip(-1)
        x, y = torch.cat([reverse[:, 1:], reverse[:, -1:]], -1), logits.y[:, other]
        if label == "smooth":  # whose probabilities are averaged: normalised after the shift
            x, y = x.log_softmax(-1), y.log_softmax(-1)
        assert torch.equal(got.x[:, k], x)
        assert torch.equal(got.y[:, k], y)


def test_unflip_between_bins_keeps_sub_pixel_places():
    codec = SimCC((20, 20), 1.5, "gaussian")
    row = torch.zeros(1, 1, 30)
    row[..., 9], row[..., 10] = 1.0, 3.0  # mean bin 9.75 = pixel 6.5, mirrored 12.5 = bin 18.75
    got = codec.unflip(SimCCLogits(row, torch.zeros(1, 1, 30)), (0,)).x[0, 0]
    assert got.sum() == pytest.approx(4)
    assert (got * torch.arange(30)).sum().item() / 4 == pytest.approx(18.75)


@LABELS
@pytest.mark.parametrize("split_ratio", [2.0, 3.0])
def test_merge_of_an_exact_mirror_changes_nothing(label, split_ratio, random_joints, log_target):
    codec = SimCC(SIZE, split_ratio, label)
    joints = random_joints(3, 17, margin=20)
    mirrored = joints[:, list(COCO.flip_order)]
    mirrored[..., 0] = SIZE[0] - 1 - mirrored[..., 0]
    logits = log_target(codec, joints)
    back = codec.unflip(log_target(codec, mirrored), COCO.flip_order)
    merged, alone = codec.decode(codec.merge(logits, back)), codec.decode(logits)
    # the mirrored joint may round to the other of two bins
    assert (merged.joints - alone.joints).abs().max() <= 1 / split_ratio + 1e-4
    assert (codec.expectation(logits) - codec.expectation(back)).abs().max() < 0.6


def test_merge_averages_probabilities_or_logits():
    first = SimCCLogits(torch.tensor([[[0.0, 3.0, 1.0, 1.0]]]), torch.zeros(1, 1, 4))
    second = SimCCLogits(torch.tensor([[[0.0, 5.0, 0.0, 6.0]]]), torch.ones(1, 1, 4))
    codec = SimCC((2, 2))
    smooth = codec.merge(first, codec.unflip(second, (0,)))
    row = second.x[0, 0]
    # mirrored, one bin to the left, and normalised after that
    shifted = torch.stack([row[2], row[1], row[0], row[0]]).softmax(0)
    torch.testing.assert_close(smooth.x[0, 0].exp(), (first.x.softmax(-1)[0, 0] + shifted) / 2)
    torch.testing.assert_close(smooth.y.exp(), torch.full((1, 1, 4), 0.25))
    codec = SimCC((2, 2), label="gaussian")
    gaussian = codec.merge(first, codec.unflip(second, (0,)))
    assert gaussian.x.tolist() == [[[0.0, 4.0, 0.5, 0.5]]]
    assert gaussian.y.tolist() == [[[0.5] * 4]]


def slow_flip_test(codec, logits, mirrored, order):
    """The published flip test at k = 2, joint by joint: joints in pixels and their scores."""

    def axis(row, other, reverse):
        if reverse:
            other = other.flip(0)
            other = torch.cat([other[1:], other[-1:]])
        if codec.label == "smooth":
            row, other = row.softmax(0), other.softmax(0)
        other = other.tolist()
        mean = [(a + b) / 2 for a, b in zip(row.tolist(), other, strict=True)]
        if codec.label == "gaussian":
            mean = torch.tensor(mean).softmax(0).tolist()
        return mean.index(max(mean)) / 2, max(mean)

    poses = []
    for b in range(len(logits.x)):
        for k, other in enumerate(order):
            x, score_x = axis(logits.x[b, k], mirrored.x[b, other], True)
            y, score_y = axis(logits.y[b, k], mirrored.y[b, other], False)
            best = max if codec.label == "smooth" else min
            poses.append([x, y, best(score_x, score_y)])
    return torch.tensor(poses).view(len(logits.x), len(order), 3)


@LABELS
@SKELETONS
def test_flip_test_against_a_slow_reference(label, skeleton, random_joints, log_target):
    codec = SimCC((24, 32), label=label)
    gen = torch.Generator().manual_seed(5)
    # Peaks of trained networks' sharpness over a floor, some at the border, some in disagreement.
    joints = random_joints(40, len(skeleton), (24, 32), margin=0)
    seen = joints[:, list(skeleton.flip_order)].clone()
    seen[..., 0] = 23 - seen[..., 0]
    seen += torch.randn(seen.shape, generator=gen) * 2
    logits, mirrored = (
        SimCCLogits(*(row + torch.randn(row.shape, generator=gen) for row in log_target(codec, p)))
        for p in (joints, seen.clamp(torch.zeros(2), torch.tensor([23.0, 31.0])))
    )
    merged = codec.decode(codec.merge(logits, codec.unflip(mirrored, skeleton.flip_order)))
    slow = slow_flip_test(codec, logits, mirrored, skeleton.flip_order)
    assert (merged.joints - slow[..., :2]).abs().max() < 0.01
    # Decoding normalises the average, whose sum the shift changes by half of one end's probability
    # less the other's; the reference does not.
    ends = mirrored.x.softmax(-1)[:, list(skeleton.flip_order)]
    change = (ends[..., 0] - ends[..., -1]).abs() / 2 if label == "smooth" else 0
    assert ((merged.scores - slow[..., 2]).abs() <= change + 1e-5).all()
    assert (merged.joints - codec.decode(logits).joints).abs().max() > 0.4  # the flip did matter
