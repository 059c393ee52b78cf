"""The refiner in half precision, compiled, exported, and on joints that coincide."""

import math

import pytest
import torch
from torch import nn

from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import Pose


def make(skeleton=CROWDPOSE, size=(48, 64), **changes):
    """A net of few channels on a small crop."""
    torch.manual_seed(0)
    small = {"hidden": 8, "widths": (16, 12, 8), **changes}
    return IGPGCN((6, 8, 10), (4, 8, 16), size, len(skeleton), skeleton.limbs, **small)


def example(batch, joints, size=(48, 64), channels=(6, 8, 10), strides=(4, 8, 16)):
    """A random pose inside the crop and random maps."""
    torch.manual_seed(1)
    pose = Pose(torch.rand(batch, joints, 2) * torch.tensor(size), torch.rand(batch, joints))
    return pose, tuple(
        torch.randn(batch, c, math.ceil(size[1] / s), math.ceil(size[0] / s))
        for c, s in zip(channels, strides, strict=True)
    )


def randomised(model):
    """Move parameters and running statistics off their special initial values."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                noise = 0.2 * torch.randn(value.shape)
                value.copy_(1 + noise.abs() if "running_var" in name else value + noise)
    return model


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_coincident_joints_give_finite_results_and_gradients(residual, batch):
    model = randomised(make(COCO, residual=residual))
    _, features = example(batch, 17)
    joints = torch.full((batch, 17, 2), 24.0, requires_grad=True)
    refined = model(Pose(joints, torch.zeros(batch, 17)), features)
    sum(r.abs().mean() for r in refined).backward()
    for tensor in (*refined, joints.grad, *(p.grad for p in model.parameters())):
        assert torch.isfinite(tensor).all()


def test_the_graph_runs_in_float32_under_autocast():
    class Maps(nn.Module):
        def forward(self, *maps):
            return maps

    model = randomised(make()).eval()
    pose, _ = example(2, 14)
    model.head = Maps()
    maps = tuple(torch.randn(2, c, 64 // s, 48 // s) for c, s in ((8, 4), (12, 8), (16, 16)))
    expected = model(pose, maps)
    with torch.autocast("cpu", torch.bfloat16):
        for joints, exact in zip(model(pose, maps), expected, strict=True):
            assert joints.dtype == torch.float32
            torch.testing.assert_close(joints, exact, rtol=0, atol=1e-5)


def test_trains_under_autocast():
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        refined = model(*example(1, 14))
        (refined[2] - 10).abs().mean().backward()
    assert all(joints.dtype == torch.float32 for joints in refined)
    assert all(torch.isfinite(p.grad).all() for p in model.head.parameters())
    assert model.head.conv.weight.grad.abs().max() > 0


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    model = randomised(make(backend="dense"))  # message passing is compiled in its own test
    pose, features = example(2, 14)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(pose, features), model(pose, features))


@pytest.mark.slow
def test_a_block_trains_when_compiled():
    block = randomised(make(backend="dense")).pose_block
    nodes = torch.randn(3, 14, 8)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    grads = []
    for run in (block, compiled):
        grads.append(torch.autograd.grad(run(nodes).square().sum(), list(block.parameters())))
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_exports_with_any_batch():
    model = randomised(make(backend="dense")).eval()
    batch = torch.export.Dim("batch")
    shapes = (Pose({0: batch}, {0: batch}), ({0: batch},) * 3)
    program = torch.export.export(model, example(2, 14), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(*example(5, 14)), model(*example(5, 14)))
    # a nested autocast region would be a call that exporters to other formats do not know
    assert not any("autocast" in str(node.target) for node in program.graph.nodes)
