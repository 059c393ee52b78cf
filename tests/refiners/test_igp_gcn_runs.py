"""The refiner in half precision, compiled, exported, and on joints that coincide."""

import pytest
import torch
from torch import nn

from kdpose.skeletons.known import COCO
from kdpose.types import Pose


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_coincident_joints_give_finite_results_and_gradients(
    residual, batch, make, example, randomised
):
    model = randomised(make(COCO, residual=residual))
    _, features = example(batch, 17)
    joints = torch.full((batch, 17, 2), 24.0, requires_grad=True)
    refined = model(Pose(joints, torch.zeros(batch, 17)), features)
    sum(r.abs().mean() for r in refined).backward()
    for tensor in (*refined, joints.grad, *(p.grad for p in model.parameters())):
        assert torch.isfinite(tensor).all()


def test_the_graph_runs_in_float32_under_autocast(make, example, randomised):
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


def test_trains_under_autocast(make, example):
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        refined = model(*example(1, 14))
        (refined[2] - 10).abs().mean().backward()
    assert all(joints.dtype == torch.float32 for joints in refined)
    assert all(torch.isfinite(p.grad).all() for p in model.head.parameters())
    assert model.head.conv.weight.grad.abs().max() > 0


@pytest.mark.slow
def test_compiles_without_graph_breaks(make, example, randomised):
    model = randomised(make(backend="dense"))  # message passing is compiled in its own test
    pose, features = example(2, 14)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(pose, features), model(pose, features))


@pytest.mark.slow
def test_a_block_trains_when_compiled(make, randomised):
    block = randomised(make(backend="dense")).pose_block
    nodes = torch.randn(3, 14, 8)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
    grads = []
    for run in (block, compiled):
        grads.append(torch.autograd.grad(run(nodes).square().sum(), list(block.parameters())))
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_exports_with_any_batch(make, example, randomised):
    model = randomised(make(backend="dense")).eval()
    batch = torch.export.Dim("batch")
    shapes = (Pose({0: batch}, {0: batch}), ({0: batch},) * 3)
    program = torch.export.export(model, example(2, 14), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(*example(5, 14)), model(*example(5, 14)))
    # a nested autocast region would be a call that exporters to other formats do not know
    assert not any("autocast" in str(node.target) for node in program.graph.nodes)
