import math

import numpy as np
import pytest
import torch

from kdpose.codecs.heatmap import Heatmap
from kdpose.skeletons.known import COCO, CROWDPOSE

CODEC = Heatmap((48, 64))  # maps of 12 x 16 cells


def reference_target(x, y, cells, sigma):
    """One joint as HRNet's training draws it: a patch of 6 sigma + 1 cells pasted at the peak."""
    w, h = cells
    reach = int(3 * sigma)
    mx, my = int(x / 4 + 0.5), int(y / 4 + 0.5)
    target = np.zeros((h, w), np.float32)
    if mx - reach >= w or my - reach >= h or mx + reach + 1 < 0 or my + reach + 1 < 0:
        return target, 0
    for row in range(h):
        for col in range(w):
            if abs(row - my) <= reach and abs(col - mx) <= reach:
                square = (row - my) ** 2 + (col - mx) ** 2
                target[row, col] = math.exp(-square / (2 * sigma**2))
    return target, 1


def reference_joint(heatmap):
    """One joint as HRNet's evaluation reads it."""
    h, w = heatmap.shape
    row, col = divmod(int(heatmap.argmax()), w)
    score = heatmap[row, col]
    if score <= 0:
        return 0.0, 0.0, score
    x, y = float(col), float(row)
    if 1 < col < w - 1 and 1 < row < h - 1:
        x += 0.25 * np.sign(heatmap[row, col + 1] - heatmap[row, col - 1])
        y += 0.25 * np.sign(heatmap[row + 1, col] - heatmap[row - 1, col])
    return 4 * x, 4 * y, score


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_encode_against_a_loop(batch, joints, sigma):
    generator = torch.Generator().manual_seed(joints)
    places = torch.rand(batch, joints, 2, generator=generator) * 160 - 50
    visible = torch.randint(0, 3, (batch, joints), generator=generator).float()
    target = Heatmap((48, 64), sigma).encode(places, visible)
    assert target.maps.shape == (batch, joints, 16, 12)
    for b in range(batch):
        for k in range(joints):
            want, inside = reference_target(*places[b, k].tolist(), (12, 16), sigma)
            weight = min(visible[b, k].item(), 1) * inside
            assert target.weight[b, k] == weight
            np.testing.assert_allclose(target.maps[b, k], want * weight, atol=1e-6)
    assert 0 < target.weight.mean() < 1


def test_encode_by_hand():
    target = CODEC.encode(torch.tensor([[[21.0, 33.0]]]), torch.ones(1, 1))
    assert target.maps[0, 0, 8, 5] == 1  # 21 / 4 + 0.5 = 5.75, 33 / 4 + 0.5 = 8.75
    assert target.maps[0, 0, 8, 7].item() == pytest.approx(math.exp(-0.5))
    assert target.maps[0, 0, 8, 11] > 0
    assert target.maps[0, 0, 15, 5] == 0  # beyond 3 sigma


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_decode_against_a_loop(batch, joints):
    generator = torch.Generator().manual_seed(batch)
    maps = torch.randn(batch, joints, 16, 12, generator=generator)
    maps[0, 0] = -maps[0, 0].abs()  # no positive value
    for k, (row, col) in enumerate([(0, 0), (1, 5), (8, 1), (15, 11), (2, 2), (14, 10)], start=1):
        maps[0, k, row, col] = 9
    pose = CODEC.decode(maps)
    for b in range(batch):
        for k in range(joints):
            x, y, score = reference_joint(maps[b, k].numpy())
            assert pose.joints[b, k].tolist() == [x, y]
            assert pose.scores[b, k] == score


def test_decode_by_hand():
    maps = torch.zeros(1, 1, 16, 12)
    maps[0, 0, 8, 5], maps[0, 0, 8, 6], maps[0, 0, 7, 5] = 0.9, 0.5, 0.4
    pose = CODEC.decode(maps)
    assert pose.joints[0, 0].tolist() == [4 * 5.25, 4 * 7.75]
    assert pose.scores.item() == pytest.approx(0.9)


def test_a_round_trip_ends_in_the_nearest_cell():
    joints = torch.rand(4, 17, 2) * torch.tensor([40.0, 56.0])
    back = CODEC.decode(CODEC.encode(joints, torch.ones(4, 17)).maps).joints
    assert (back - joints).abs().max() <= 2


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
def test_flip_against_a_loop(skeleton):
    maps = torch.randn(2, len(skeleton), 16, 12)
    back = CODEC.unflip(maps, skeleton.flip_order)
    for k, other in enumerate(skeleton.flip_order):
        for col in range(12):
            source = 11 - max(col - 1, 0)  # reversed, then moved right by one cell
            assert torch.equal(back[:, k, :, col], maps[:, other, :, source])
    assert CODEC.flip_shift == 1
    assert torch.equal(CODEC.merge(maps, back), (maps + back) / 2)


def test_flip_brings_a_mirrored_joint_back_to_within_a_cell():
    """The reference's shift of a whole cell, 4 px, where 3 px would be exact: 1 px remains."""
    joints = torch.rand(64, 17, 2) * torch.tensor([40.0, 56.0]) + 4
    mirrored = torch.stack([47 - joints[..., 0], joints[..., 1]], -1)[:, list(COCO.flip_order)]
    maps = CODEC.encode(mirrored, torch.ones(64, 17)).maps
    error = CODEC.decode(CODEC.unflip(maps, COCO.flip_order)).joints - joints
    inner = (joints[..., 0] > 8) & (joints[..., 0] < 40)  # the shift repeats and drops a column
    assert error[inner][:, 0].mean().item() == pytest.approx(1, abs=0.2)
    assert (error[inner][:, 0] - 1).abs().max() <= 2
    assert error[inner][:, 1].abs().max() <= 2


def test_expectation_is_the_decoded_pose_without_gradient():
    maps = torch.randn(2, 17, 16, 12)
    assert torch.equal(CODEC.expectation(maps, 2.0), CODEC.decode(maps).joints)
    with pytest.raises(ValueError, match=r"joints of heatmaps have no gradient: .*codec=simcc"):
        CODEC.expectation(maps.requires_grad_())


def test_low_precision_maps_decode_in_float32():
    maps = torch.zeros(1, 1, 16, 12, dtype=torch.bfloat16)
    maps[0, 0, 8, 5] = 1
    assert CODEC.decode(maps).joints.dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": (50, 64)}, r"two multiples of 4 px, got \(50, 64\)"),
        ({"input_size": (48,)}, "input_size must be two"),
        ({"input_size": (48, 64), "sigma": 0}, r"sigma must be positive \(cells\), got 0"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        Heatmap(**fields)
    with pytest.raises(ValueError, match=r"got \(1, 17, 2\) and \(1, 14\)"):
        CODEC.encode(torch.zeros(1, 17, 2), torch.zeros(1, 14))
