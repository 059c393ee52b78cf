import math

import numpy as np
import pytest
import torch

from kdpose.codecs.dark import Dark
from kdpose.codecs.heatmap import Heatmap
from kdpose.skeletons.known import COCO

CODEC = Dark((96, 128))  # maps of 24 x 32 cells


def reference_target(x, y, cells, sigma):
    """One joint: a Gaussian around its own place, whole."""
    w, h = cells
    mx, my = x / 4, y / 4
    if mx - 3 * sigma >= w or my - 3 * sigma >= h or min(mx, my) + 3 * sigma + 1 < 0:
        return np.zeros((h, w)), 0
    row, col = np.mgrid[:h, :w]
    return np.exp(-((col - mx) ** 2 + (row - my) ** 2) / (2 * sigma**2)), 1


def reference_blur(heatmap, kernel=11):
    """OpenCV's Gaussian on a map among zeros, scaled to the maximum it had."""
    sigma, half = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8, kernel // 2
    line = np.array([math.exp(-(i**2) / (2 * sigma**2)) for i in range(-half, half + 1)])
    weight = np.outer(line, line) / line.sum() ** 2
    padded, out = np.pad(heatmap, half), np.zeros_like(heatmap)
    for row, col in np.ndindex(heatmap.shape):
        out[row, col] = (padded[row : row + kernel, col : col + kernel] * weight).sum()
    return out * heatmap.max() / out.max()


def reference_joint(heatmap, step=2):
    """One joint: the extremum of the second-order expansion of the log at the highest cell."""
    h, w = heatmap.shape
    row, col = divmod(int(heatmap.argmax()), w)
    score = heatmap[row, col]
    if score <= 0:
        return np.zeros(2), score
    if not (step <= col < w - step and step <= row < h - step):
        return np.array([col, row], float), score
    log = np.log(np.maximum(reference_blur(heatmap), 1e-10))
    gradient = np.array(
        [log[row, col + 1] - log[row, col - 1], log[row + 1, col] - log[row - 1, col]]
    )
    xx = (log[row, col + step] - 2 * log[row, col] + log[row, col - step]) / step**2
    yy = (log[row + step, col] - 2 * log[row, col] + log[row - step, col]) / step**2
    xy = (log[row + 1, col + 1] - log[row - 1, col + 1] - log[row + 1, col - 1]
          + log[row - 1, col - 1]) / 4  # fmt: skip
    move = -np.linalg.inv(np.array([[xx, xy], [xy, yy]])) @ (gradient / 2)
    return np.array([col, row]) + move.clip(-2, 2), score


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_encode_against_a_loop(sigma):
    generator = torch.Generator().manual_seed(2)
    places = torch.rand(3, 14, 2, generator=generator) * 200 - 50
    visible = torch.randint(0, 3, (3, 14), generator=generator).float()
    target = Dark((96, 128), sigma).encode(places, visible)
    for b, k in np.ndindex(3, 14):
        want, inside = reference_target(*places[b, k].tolist(), (24, 32), sigma)
        weight = min(visible[b, k].item(), 1) * inside
        assert target.weight[b, k] == weight
        np.testing.assert_allclose(target.maps[b, k], want * weight, atol=1e-5)
    assert 0 < target.weight.mean() < 1


def bumps(batch, joints, seed):
    """Maps as a network gives them: a broad peak, another, and noise."""
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.rand(batch, joints, 2, generator=generator) * 100 for _ in range(2)]
    ones = torch.ones(batch, joints)
    first, second = (CODEC.encode(places + 10, ones).maps for places in draw)
    noise = torch.randn(first.shape, generator=generator)
    return first + 0.5 * second + 0.02 * noise


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_decode_against_a_loop(batch, joints):
    maps = bumps(batch, joints, seed=joints)
    maps[0, 0] = -maps[0, 0].abs()  # no positive value
    for k, (row, col) in enumerate([(0, 0), (1, 5), (8, 1), (31, 23), (2, 2), (29, 21)], start=1):
        maps[0, k] = 0.01 * maps[0, k].abs()
        maps[0, k, row, col] = 9
    pose = CODEC.decode(maps)
    for b, k in np.ndindex(batch, joints):
        cells, score = reference_joint(maps[b, k].double().numpy())
        np.testing.assert_allclose(pose.joints[b, k], 4 * cells, atol=0.02)
        assert pose.scores[b, k].item() == pytest.approx(score)


def test_a_round_trip_keeps_what_lies_between_cells(random_joints):
    joints = random_joints(8, 17, (96, 128), margin=32)
    maps = CODEC.encode(joints, torch.ones(8, 17)).maps
    assert (CODEC.decode(maps).joints - joints).abs().max() < 0.05
    assert (Heatmap((96, 128)).decode(maps).joints - joints).abs().max() > 0.5


def test_a_flat_or_empty_map_gives_finite_joints():
    maps = torch.zeros(1, 4, 32, 24)
    maps[0, 1] = 1.0
    maps[0, 2, 10, 10] = maps[0, 2, 10, 12] = 1e-30
    maps[0, 3] = torch.rand(32, 24) * 1e-7 + 1
    joints = CODEC.decode(maps).joints
    assert joints.isfinite().all()
    column, row = (maps[0, 3].argmax() % 24).item(), (maps[0, 3].argmax() // 24).item()
    assert (joints[0, 3] - 4 * torch.tensor([column, row])).abs().max() <= 8


def test_what_it_has_of_the_heatmap_codec():
    maps = torch.randn(2, 17, 32, 24)
    plain = Heatmap((96, 128))
    assert CODEC.bins == plain.bins == (24, 32)
    assert CODEC.flip_shift == 1
    assert torch.equal(CODEC.unflip(maps, COCO.flip_order), plain.unflip(maps, COCO.flip_order))
    assert torch.equal(CODEC.expectation(maps), CODEC.decode(maps).joints)
    with pytest.raises(ValueError, match="joints of heatmaps have no gradient"):
        CODEC.expectation(maps.requires_grad_())


def test_exports_with_any_batch():
    class Decode(torch.nn.Module):
        def forward(self, maps):
            return tuple(CODEC.decode(maps))

    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Decode(), (torch.rand(2, 3, 32, 24),), dynamic_shapes=({0: batch},)
    )
    maps = bumps(5, 3, seed=1)
    torch.testing.assert_close(program.module()(maps), tuple(CODEC.decode(maps)))


@pytest.mark.parametrize("kernel", [1, 10])
def test_errors(kernel):
    with pytest.raises(ValueError, match=rf"odd number of cells from 3 on, got {kernel}"):
        Dark((96, 128), kernel=kernel)
    with pytest.raises(ValueError, match="two multiples of 4 px"):
        Dark((50, 64))
