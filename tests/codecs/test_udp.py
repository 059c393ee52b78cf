import numpy as np
import pytest
import torch

from kdpose.codecs.udp import UDP
from kdpose.skeletons.known import COCO

CODEC = UDP((96, 128))  # maps of 24 x 32 cells
SCALE = np.array([95 / 23, 127 / 31])  # pixels per cell


def reference_target(place, cells, sigma):
    """One joint: a Gaussian around its place, cut to a patch around the nearest cell."""
    w, h = cells
    mx, my = place / SCALE
    cx, cy, reach = int(mx + 0.5), int(my + 0.5), int(3 * sigma)
    target = np.zeros((h, w))
    if cx - reach >= w or cy - reach >= h or cx + reach + 1 < 0 or cy + reach + 1 < 0:
        return target, 0
    for row in range(max(cy - reach, 0), min(cy + reach + 1, h)):
        for col in range(max(cx - reach, 0), min(cx + reach + 1, w)):
            target[row, col] = np.exp(-((col - mx) ** 2 + (row - my) ** 2) / (2 * sigma**2))
    return target, 1


def reference_joint(heatmap):
    """One joint, by fitting a paraboloid to the log of the blurred map at the highest cell."""
    half, width = 5, heatmap.shape[1]
    row, col = divmod(int(heatmap.argmax()), width)
    line = np.exp(-((np.arange(-half, half + 1) / 2.0) ** 2) / 2)
    padded = np.pad(heatmap, half + 1)
    near = np.zeros((3, 3))
    for j, i in np.ndindex(3, 3):
        patch = padded[row + j : row + j + 11, col + i : col + i + 11]
        near[j, i] = np.log(line @ patch @ line)
    gradient = np.array([near[1, 2] - near[1, 0], near[2, 1] - near[0, 1]]) / 2
    xx, yy = near[1, 2] + near[1, 0] - 2 * near[1, 1], near[2, 1] + near[0, 1] - 2 * near[1, 1]
    xy = (near[2, 2] + near[0, 0] - near[0, 2] - near[2, 0]) / 4
    return np.array([col, row]) - np.linalg.solve(np.array([[xx, xy], [xy, yy]]), gradient)


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_encode_against_a_loop(sigma):
    generator = torch.Generator().manual_seed(2)
    places = torch.rand(3, 14, 2, generator=generator) * 200 - 50
    visible = torch.randint(0, 3, (3, 14), generator=generator).float()
    target = UDP((96, 128), sigma).encode(places, visible)
    for b, k in np.ndindex(3, 14):
        want, inside = reference_target(places[b, k].numpy(), (24, 32), sigma)
        weight = min(visible[b, k].item(), 1) * inside
        assert target.weight[b, k] == weight
        np.testing.assert_allclose(target.maps[b, k], want * weight, atol=1e-5)
    assert 0 < target.weight.mean() < 1


@pytest.mark.parametrize("batch", [1, 3])
def test_decode_against_a_loop(batch, random_joints):
    joints = random_joints(batch, 17, (96, 128), margin=16)
    maps = CODEC.encode(joints, torch.ones(batch, 17)).maps
    maps = maps + 0.05 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(3))
    pose = CODEC.decode(maps)
    for b, k in np.ndindex(batch, 17):
        wanted = reference_joint(maps[b, k].double().numpy()) * SCALE
        np.testing.assert_allclose(pose.joints[b, k], wanted, atol=0.01)
        assert pose.scores[b, k] == maps[b, k].max()


def test_the_end_cells_are_the_end_pixels():
    ends = torch.tensor([[[0.0, 0.0], [95.0, 127.0]]])
    maps = CODEC.encode(ends, torch.ones(1, 2)).maps
    assert maps[0, 0, 0, 0] == 1
    assert maps[0, 1, 31, 23] == 1
    torch.testing.assert_close(CODEC.decode(maps).joints, ends)


def test_a_mirrored_crops_maps_fit_without_a_shift(random_joints):
    joints = random_joints(8, 17, (96, 128), margin=32)
    order = list(COCO.flip_order)
    mirrored = torch.stack([95 - joints[..., 0], joints[..., 1]], -1)[:, order]
    seen, own = (CODEC.encode(j, torch.ones(8, 17)).maps for j in (mirrored, joints))
    back = CODEC.unflip(seen, order)
    assert (back - own).abs().max() < 0.02  # the edge of a patch may be another cell
    assert (CODEC.decode(back).joints - joints).abs().max() < 0.1
    assert CODEC.flip_shift == 0


def test_spread_is_the_targets_width():
    middle = torch.tensor([[[48.0, 64.0]]])
    wide = CODEC.spread(CODEC.encode(middle, torch.ones(1, 1)).maps)[0, 0]
    np.testing.assert_allclose(wide, 2 * SCALE, rtol=0.05)


def test_errors():
    with pytest.raises(ValueError, match=r"two cells a side, so 8 px, got \(4, 64\)"):
        UDP((4, 64))
    with pytest.raises(ValueError, match="odd number of cells"):
        UDP((96, 128), kernel=4)
    with pytest.raises(ValueError, match="joints of heatmaps have no gradient"):
        CODEC.expectation(torch.zeros(1, 17, 32, 24, requires_grad=True))
