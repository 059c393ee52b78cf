import math
import os
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call

from kdpose.refiners.sem_graph_conv import SemGraphConv, skeleton_edges
from kdpose.skeletons.known import COCO, CROWDPOSE

BACKENDS = ("pyg", "dense")


def randomised(module, seed=0):
    """Move every parameter off its special initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def naive_conv(x, weight, edge_score, bias, limbs):
    """The formula, joint by joint: softmax over neighbours and self, W0 for self, W1 for others."""
    batch, joints, _ = x.shape
    neighbours = {k: {k} for k in range(joints)}
    for a, b in limbs:
        neighbours[a].add(b)
        neighbours[b].add(a)
    ordered = [(i, j) for i in range(joints) for j in sorted(neighbours[i])]
    score = dict(zip(ordered, edge_score.tolist(), strict=True))
    out = torch.zeros(batch, joints, weight.shape[2], dtype=x.dtype)
    for i in range(joints):
        total = sum(math.exp(score[i, j]) for j in neighbours[i])
        for b in range(batch):
            out[b, i] = bias
            for j in neighbours[i]:
                attention = math.exp(score[i, j]) / total
                out[b, i] += attention * (x[b, j] @ weight[0 if i == j else 1])
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_formula_written_as_loops(backend, skeleton, batch):
    conv = randomised(SemGraphConv(5, 7, skeleton.limbs, len(skeleton), backend)).double()
    x = torch.randn(batch, len(skeleton), 5, dtype=torch.float64)
    expected = naive_conv(x, conv.weight, conv.edge_score, conv.bias, skeleton.limbs)
    assert conv(x).shape == (batch, len(skeleton), 7)
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_joints_by_hand(backend):
    conv = SemGraphConv(1, 1, [(0, 1)], 2, backend)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[1.0]], [[10.0]]]))
        conv.bias.fill_(0.5)
        conv.edge_score.copy_(torch.tensor([math.log(3), 0, 0, 0]))  # 0<-0, 0<-1, 1<-0, 1<-1
    # joint 0: 3/4 * 1 * 2 + 1/4 * 10 * 4; joint 1: 1/2 * 10 * 2 + 1/2 * 1 * 4
    expected = torch.tensor([[[11.5 + 0.5], [12 + 0.5]]])
    torch.testing.assert_close(conv(torch.tensor([[[2.0], [4.0]]])), expected)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
def test_backends_agree_in_values_and_gradients(skeleton):
    pyg = randomised(SemGraphConv(6, 4, skeleton.limbs, len(skeleton), "pyg")).double()
    dense = SemGraphConv(6, 4, skeleton.limbs, len(skeleton), "dense").double()
    dense.load_state_dict(pyg.state_dict())
    x = torch.randn(3, len(skeleton), 6, dtype=torch.float64)
    goal = torch.randn(3, len(skeleton), 4, dtype=torch.float64)
    grads = []
    for conv in (pyg, dense):
        entry = x.clone().requires_grad_()
        torch.testing.assert_close(conv(entry), pyg(x))
        loss = (conv(entry) * goal).sum()
        grads.append(torch.autograd.grad(loss, [entry, *conv.parameters()]))
    for one, other in zip(*grads, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("first", "second"), [BACKENDS, BACKENDS[::-1]])
def test_state_dict_holds_parameters_alone_and_loads_into_the_other_backend(first, second):
    saved = SemGraphConv(2, 3, COCO.limbs, 17, first).state_dict()
    assert set(saved) == {"weight", "edge_score", "bias"}
    SemGraphConv(2, 3, COCO.limbs, 17, second).load_state_dict(saved, strict=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend):
    conv = randomised(SemGraphConv(2, 3, [(0, 1), (1, 2)], 4, backend)).double()
    names, values = zip(*conv.named_parameters(), strict=True)
    x = torch.randn(2, 4, 2, dtype=torch.float64, requires_grad=True)

    def run(x, *parameters):
        return functional_call(conv, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize(("skeleton", "edges"), [(COCO, 55), (CROWDPOSE, 44)])
def test_parameter_count(skeleton, edges):
    conv = SemGraphConv(24, 10, skeleton.limbs, len(skeleton))
    assert len(skeleton) + 2 * len(skeleton.limbs) == edges
    assert sum(p.numel() for p in conv.parameters()) == 2 * 24 * 10 + 10 + edges


def test_starts_as_published():
    conv = SemGraphConv(40, 50, COCO.limbs, 17)
    bound = math.sqrt(2) * math.sqrt(6 / (40 * 50 + 2 * 50))  # fans of a (2, 40, 50) tensor
    assert 0.98 * bound < conv.weight.abs().max() <= bound
    assert 0.8 * 50**-0.5 < conv.bias.abs().max() <= 50**-0.5
    assert torch.equal(conv.edge_score, torch.ones(55))


@pytest.mark.parametrize("backend", BACKENDS)
def test_persons_do_not_mix(backend):
    conv = randomised(SemGraphConv(4, 4, CROWDPOSE.limbs, 14, backend))
    x = torch.randn(3, 14, 4)
    torch.testing.assert_close(conv(x), torch.cat([conv(person[None]) for person in x]))
    torch.testing.assert_close(conv(x[[2, 0, 1]]), conv(x)[[2, 0, 1]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_renaming_the_joints_renames_the_result(backend):
    conv = SemGraphConv(4, 4, CROWDPOSE.limbs, 14, backend)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    place = order.argsort().tolist()
    renamed = SemGraphConv(4, 4, [(place[a], place[b]) for a, b in CROWDPOSE.limbs], 14, backend)
    renamed.load_state_dict(conv.state_dict())  # all edge scores are still equal
    x = torch.randn(2, 14, 4)
    torch.testing.assert_close(renamed(x[:, order]), conv(x)[:, order])


def test_edges_depend_on_the_set_of_limbs_alone():
    expected = torch.tensor([[0, 1, 0, 1, 2, 1, 2, 3], [0, 0, 1, 1, 1, 2, 2, 3]])
    for limbs in ([(0, 1), (1, 2)], [(2, 1), (1, 0)], [(1, 2), (0, 1), (1, 0)]):
        assert torch.equal(skeleton_edges(limbs, 4), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_limbs_it_is_a_linear_layer(backend):
    conv = randomised(SemGraphConv(3, 2, [], 4, backend))
    x = torch.randn(1, 4, 3)
    torch.testing.assert_close(conv(x), x @ conv.weight[0] + conv.bias)


@pytest.mark.parametrize("limb", [(0, 17), (-1, 3)])
def test_rejects_a_limb_outside_the_skeleton(limb):
    with pytest.raises(ValueError, match=rf"two of 17 joints, got \({limb[0]}, {limb[1]}\)"):
        SemGraphConv(3, 2, [limb], 17)


def test_rejects_an_unknown_backend():
    with pytest.raises(ValueError, match="backend must be 'pyg' or 'dense', got 'sparse'"):
        SemGraphConv(3, 2, COCO.limbs, 17, "sparse")


@pytest.mark.parametrize("backend", BACKENDS)
def test_exports_with_any_batch_and_dense_without_scatters(backend):
    conv = randomised(SemGraphConv(3, 2, CROWDPOSE.limbs, 14, backend))
    batch = torch.export.Dim("batch")
    program = torch.export.export(conv, (torch.randn(2, 14, 3),), dynamic_shapes=({0: batch},))
    x = torch.randn(5, 14, 3)
    torch.testing.assert_close(program.module()(x), conv(x))
    calls = " ".join(str(node.target) for node in program.graph.nodes)
    assert ("scatter" in calls) == (backend == "pyg")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_without_graph_breaks(backend):
    conv = randomised(SemGraphConv(3, 2, CROWDPOSE.limbs, 14, backend))
    x = torch.randn(2, 14, 3)
    compiled = torch.compile(conv, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), conv(x))


PICKLED = """
import copy, pickle, torch
from kdpose.refiners.sem_graph_conv import SemGraphConv
conv = SemGraphConv(1, 1, [(0, 1)], 2)
for one in (conv, copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
    assert one(torch.ones(1, 2, 1)).shape == (1, 2, 1)
print(type(conv).propagate.__module__)
"""


def test_nothing_is_left_in_the_temporary_folder(tmp_path):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    words = [sys.executable, "-c", PICKLED]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "kdpose.refiners.sem_graph_conv_SemGraphConv_propagate\n"
    assert os.listdir(tmp_path) == []
