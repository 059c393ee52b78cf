import numpy as np
import pytest
import torch

from kdpose.codecs.regression import Regression
from kdpose.skeletons.known import COCO
from kdpose.types import Coordinates

CODEC = Regression((48, 64))


def coordinates(batch=2, joints=17):
    torch.manual_seed(0)
    return Coordinates(
        torch.rand(batch, joints, 2), torch.rand(batch, joints, 2), torch.rand(batch, joints)
    )


def test_a_joint_by_hand():
    target = CODEC.encode(torch.tensor([[[12.0, 48.0], [48.0, 3.0]]]), torch.tensor([[2.0, 1.0]]))
    assert target.joints[0, 0].tolist() == [0.25, 0.75]
    assert target.weight.tolist() == [[1, 0]]  # x = 48 is outside 0..47
    scores = Coordinates(target.joints, torch.full((1, 2, 2), 0.5), torch.tensor([[0.9, 0.1]]))
    assert CODEC.decode(scores).joints[0, 0].tolist() == [12, 48]
    assert CODEC.decode(scores).scores.tolist() == pytest.approx(np.array([[0.9, 0.1]]))
    assert CODEC.spread(scores)[0, 0].tolist() == [24, 32]


def test_decoding_inverts_encoding():
    joints = torch.rand(3, 17, 2) * torch.tensor([47.0, 63.0])
    target = CODEC.encode(joints, torch.ones(3, 17))
    assert target.weight.all()
    scores = Coordinates(target.joints, torch.rand(3, 17, 2), torch.ones(3, 17))
    torch.testing.assert_close(CODEC.decode(scores).joints, joints)
    torch.testing.assert_close(CODEC.expectation(scores), joints)


def test_a_mirrored_crop():
    scores = coordinates()
    pixels = CODEC.decode(scores).joints.numpy()
    wanted = pixels[:, list(COCO.flip_order)]
    wanted[..., 0] = 47 - wanted[..., 0]
    back = CODEC.unflip(scores, COCO.flip_order)
    np.testing.assert_allclose(CODEC.decode(back).joints.numpy(), wanted, atol=1e-5)
    twice = CODEC.unflip(back, COCO.flip_order)
    for one, two in zip(scores, twice, strict=True):
        torch.testing.assert_close(one, two)
    merged = CODEC.merge(scores, back)
    torch.testing.assert_close(merged.score, (scores.score + back.score) / 2)


def test_a_network_as_a_target():
    scores, weight = coordinates(), torch.ones(2, 17)
    target = CODEC.as_target(scores, weight)
    assert target.joints is scores.joints
    assert target.weight is weight


@pytest.mark.parametrize("size", [(0, 64), (50, 64), (48,)])
def test_a_size_that_does_not_fit(size):
    with pytest.raises(ValueError, match="input_size must be two multiples of 4 px"):
        Regression(size)
