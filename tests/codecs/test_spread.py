"""Spreads of distributions: a Gaussian gives its sigma, whatever its background."""

import numpy as np
import pytest
import torch

from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.codecs.spread import bin_spread, map_spread
from kdpose.data.transforms import crop_matrix, warp_spread
from kdpose.types import SimCCLogits


def gaussian(count, middle, sigma):
    return (-0.5 * ((torch.arange(count) - middle) / sigma).square()).exp()


@pytest.mark.parametrize("sigma", [2.0, 4.0, 9.5])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_a_gaussian_has_its_sigma_even_over_a_background(sigma, floor):
    density = gaussian(200, 90, sigma).clamp(min=floor)
    assert bin_spread(density).item() == pytest.approx(sigma, rel=0.05)


def test_one_bin_has_no_spread_and_two_peaks_have_their_distance():
    spike, pair = torch.zeros(100), torch.zeros(100)
    spike[40] = 1
    pair[[20, 80]] = torch.tensor([1.0, 0.5])
    assert bin_spread(spike) == 0
    # a third of the mass lies 60 bins from the maximum; tails of a Gaussian are made up for
    assert bin_spread(pair).item() == pytest.approx(60 * (1 / 3 / 0.82314) ** 0.5, rel=1e-4)
    assert bin_spread(torch.zeros(2, 3, 50)).tolist() == [[0, 0, 0]] * 2


def test_a_map_has_the_sigma_of_each_axis():
    bump = gaussian(64, 20, 5.0)[:, None] * gaussian(48, 30, 3.0)[None]
    assert map_spread(bump[None, None] - 0.01)[0, 0].tolist() == pytest.approx([3, 5], rel=0.05)


def test_codecs_give_the_width_of_their_own_targets():
    joints, visible = torch.tensor([[[20.0, 40.0]]]), torch.ones(1, 1)
    simcc = SimCC((96, 128), label="gaussian", sigma=6.0)
    target = simcc.encode(joints, visible)
    logits = SimCCLogits(*(q.clamp(min=1e-12).log() for q in (target.x, target.y)))
    assert simcc.spread(logits)[0, 0].tolist() == pytest.approx([3, 3], rel=0.02)  # pixels
    heatmap = Heatmap((96, 128), sigma=2.0)
    maps = heatmap.encode(joints, visible).maps
    assert heatmap.spread(maps)[0, 0].tolist() == pytest.approx([8, 8], rel=0.05)


def test_a_spread_is_encoded_in_the_place_of_sigma_where_it_is_known():
    simcc = SimCC((96, 128), label="gaussian", sigma=6.0)
    joints, visible = torch.tensor([[[20.0, 40.0], [50.0, 60.0]]]), torch.ones(1, 2)
    spread = torch.tensor([[[2.0, 5.0], [0.0, 0.0]]])

    target, plain = simcc.encode(joints, visible, spread), simcc.encode(joints, visible)

    assert bin_spread(target.x[0, 0]).item() == pytest.approx(4, rel=0.05)
    assert bin_spread(target.y[0, 0]).item() == pytest.approx(10, rel=0.05)
    assert target.x[0, 0].sum().item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(target.x[0, 1], plain.x[0, 1])
    with pytest.raises(ValueError, match="need codec"):
        SimCC((96, 128)).encode(joints, visible, spread)


def test_a_warped_spread_is_that_of_warped_samples():
    matrix = crop_matrix(np.array([50.0, 60.0]), np.array([60.0, 80.0]), (96, 128), 30.0, True)
    samples = np.random.default_rng(0).normal(size=(200_000, 2)) * [3.0, 8.0]
    seen = (samples @ matrix[:, :2].T).std(0)
    spread = warp_spread(np.array([[3.0, 8.0]], np.float32), matrix)
    np.testing.assert_allclose(spread[0], seen, rtol=0.01)
