"""Joints, and the logits of networks that are right or random."""

import pytest
import torch

from kdpose.types import SimCCLogits


@pytest.fixture(scope="session")
def random_joints():
    """Draws joints ``(B, K, 2)`` inside a crop, at a margin from its border."""

    def draw(batch, joints, size=(192, 256), margin=0.0):
        low = torch.tensor([margin, margin])
        high = torch.tensor([size[0] - 1 - margin, size[1] - 1 - margin])
        return low + torch.rand(batch, joints, 2, generator=torch.manual_seed(0)) * (high - low)

    return draw


@pytest.fixture(scope="session")
def log_target():
    """Gives logits of a model that predicts the target exactly; a network's are finite."""

    def make(codec, joints):
        target = codec.encode(joints, torch.ones(joints.shape[:-1]))
        return SimCCLogits(*(q.double().clamp(min=1e-40).log() for q in (target.x, target.y)))

    return make


@pytest.fixture(scope="session")
def random_logits():
    """Draws logits for a codec's bins."""

    def draw(batch, joints, codec, dtype=torch.float32):
        generator = torch.manual_seed(1)
        x, y = (
            torch.randn(batch, joints, bins, generator=generator, dtype=dtype)
            for bins in codec.bins
        )
        return SimCCLogits(x, y)

    return draw
