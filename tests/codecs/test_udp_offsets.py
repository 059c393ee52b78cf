import cv2
import numpy as np
import pytest
import torch

from kdpose.codecs.udp_offsets import UDPOffsets
from kdpose.skeletons.known import COCO

CODEC = UDPOffsets((96, 128))  # maps of 24 x 32 cells
SCALE = np.array([95 / 23, 127 / 31])  # pixels per cell


def reference_target(place, radius):
    """One joint's three maps, cell by cell."""
    maps = np.zeros((3, 32, 24))
    for row, col in np.ndindex(32, 24):
        x, y = (place / SCALE - (col, row)) / radius
        if x * x + y * y <= 1:
            maps[:, row, col] = 1, x, y
    return maps


def reference_joint(maps):
    """One joint, smoothed by OpenCV; 1.4 is its sigma for 7 cells, in place of its fixed table."""
    near = cv2.GaussianBlur(maps[0], (15, 15), 0)
    x, y = (cv2.GaussianBlur(m, (7, 7), 1.4) for m in maps[1:])
    row, col = divmod(int(near.argmax()), near.shape[1])
    return np.array([col + 3.5 * x[row, col], row + 3.5 * y[row, col]]) * SCALE, near.max()


@pytest.mark.parametrize("radius", [1.0, 3.5])
def test_encode_against_a_loop(radius):
    generator = torch.Generator().manual_seed(2)
    places = torch.rand(3, 14, 2, generator=generator) * 200 - 50
    visible = torch.randint(0, 3, (3, 14), generator=generator).float()
    target = UDPOffsets((96, 128), radius=radius).encode(places, visible)
    assert target.maps.shape == (3, 14, 3, 32, 24)
    for b, k in np.ndindex(3, 14):
        want = reference_target(places[b, k].double().numpy(), radius)
        weight = min(visible[b, k].item(), 1) * want[0].max()
        assert target.weight[b, k] == weight
        np.testing.assert_allclose(target.maps[b, k], want * weight, atol=1e-4)
    assert 0 < target.weight.mean() < 1


@pytest.mark.parametrize("batch", [1, 3])
def test_decode_against_opencv(batch, random_joints):
    joints = random_joints(batch, 17, (96, 128))
    maps = CODEC.encode(joints, torch.ones(batch, 17)).maps
    maps = maps + 0.05 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(3))
    pose = CODEC.decode(maps)
    for b, k in np.ndindex(batch, 17):
        wanted, score = reference_joint(maps[b, k].numpy())
        np.testing.assert_allclose(pose.joints[b, k], wanted, atol=1e-3)
        assert pose.scores[b, k].item() == pytest.approx(score, rel=1e-5)


def test_what_is_encoded_is_decoded(random_joints):
    joints = random_joints(8, 17, (96, 128), margin=40)
    pose = CODEC.decode(CODEC.encode(joints, torch.ones(8, 17)).maps)
    assert (pose.joints - joints).abs().max() < 1.5  # the published blur mixes offsets: 0.3 cells


def test_a_mirrored_crops_maps_fit(random_joints):
    joints = random_joints(8, 17, (96, 128), margin=16)
    order = list(COCO.flip_order)
    mirrored = torch.stack([95 - joints[..., 0], joints[..., 1]], -1)[:, order]
    seen, own = (CODEC.encode(j, torch.ones(8, 17)).maps for j in (mirrored, joints))
    back = CODEC.unflip(seen, order)
    inner = (own[:, :, 1:].square().sum(2) < 0.99) & (back[:, :, 1:].square().sum(2) < 0.99)
    torch.testing.assert_close(back * inner[:, :, None], own * inner[:, :, None], atol=1e-4, rtol=0)
    assert CODEC.flip_shift == 0


def test_spread_is_that_of_the_disc():
    middle = torch.tensor([[[48.0, 64.0]]])
    wide = CODEC.spread(CODEC.encode(middle, torch.ones(1, 1)).maps)
    assert wide.shape == (1, 1, 2)
    assert 3.5 / 2 < (wide[0, 0] / torch.tensor(SCALE)).mean() < 3.5


def test_errors():
    with pytest.raises(ValueError, match=r"15 cells needs maps of 8 cells a side or more, got \(6"):
        UDPOffsets((24, 128))
    with pytest.raises(ValueError, match=r"radius must be positive \(cells\), got 0"):
        UDPOffsets((96, 128), radius=0)
    with pytest.raises(ValueError, match="odd number of cells"):
        UDPOffsets((96, 128), offset_kernel=4)
