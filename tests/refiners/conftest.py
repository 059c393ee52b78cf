"""A small refiner and what it refines."""

import math

import pytest
import torch

from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.types import Pose


@pytest.fixture(scope="session")
def make():
    """Makes a net of few channels on a small crop."""

    def make_net(skeleton=CROWDPOSE, size=(48, 64), **changes):
        torch.manual_seed(0)
        small = {"hidden": 8, "widths": (16, 12, 8), **changes}
        return IGPGCN((6, 8, 10), (4, 8, 16), size, len(skeleton), skeleton.limbs, **small)

    return make_net


@pytest.fixture(scope="session")
def example():
    """Draws a random pose inside the crop and random maps."""

    def draw(batch, joints, size=(48, 64), channels=(6, 8, 10), strides=(4, 8, 16)):
        torch.manual_seed(1)
        pose = Pose(torch.rand(batch, joints, 2) * torch.tensor(size), torch.rand(batch, joints))
        return pose, tuple(
            torch.randn(batch, c, math.ceil(size[1] / s), math.ceil(size[0] / s))
            for c, s in zip(channels, strides, strict=True)
        )

    return draw


@pytest.fixture(scope="session")
def randomised():
    """Moves parameters and running statistics off their special initial values."""

    def move(model):
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    noise = 0.2 * torch.randn(value.shape)
                    value.copy_(1 + noise.abs() if "running_var" in name else value + noise)
        return model

    return move
