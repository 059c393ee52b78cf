import numpy as np
import pytest
import torch

from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.refiners.opec_net import OPECNet, mean_places
from kdpose.skeletons.known import CROWDPOSE

FASTPOSE = (128, 256, 512), (4, 8, 16)  # the maps that OPEC-Net was published with
BODY = 12  # its joints: CrowdPose's without head and neck
BODY_LIMBS = [
    (0, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7), (6, 8), (8, 10), (7, 9), (9, 11)
]  # fmt: skip


def small(backend="pyg"):
    torch.manual_seed(0)
    return OPECNet((6, 8, 10), (4, 8, 16), (48, 64), 14, CROWDPOSE.limbs, 8, (16, 12, 8), backend)


def test_parameters_as_published():
    """1.901 M in the graph, 2.211 M in its image head and heatmaps: 4.11 M."""
    net = OPECNet(*FASTPOSE, (256, 320), BODY, BODY_LIMBS)
    count = {"image": 0, "graph": 0}
    for name, parameter in net.named_parameters():
        count["image" if name.split(".")[0] in ("head", "heat") else "graph"] += parameter.numel()
    assert count["image"] == 2_210_956
    assert count["graph"] / 1e6 == pytest.approx(1.901, abs=5e-4)
    assert sum(count.values()) / 1e6 == pytest.approx(4.11, abs=5e-3)


def test_on_hrnet_w32_it_is_the_igp_gcn_and_its_heatmaps():
    arguments = ((32, 64, 128, 256), (4, 8, 16, 32), (192, 256), 14, CROWDPOSE.limbs)
    own, other = (
        sum(p.numel() for p in kind(*arguments).parameters()) for kind in (OPECNet, IGPGCN)
    )
    assert own - other == 9 * 128 * 14 + 14


def test_means_of_softmaxes_against_a_loop():
    maps = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    found = mean_places(maps)
    for b, k in np.ndindex(2, 3):
        weight = np.exp(maps[b, k].double().numpy())
        rows, columns = np.mgrid[:5, :4]
        wanted = [(weight * places).sum() / weight.sum() for places in (columns, rows)]
        np.testing.assert_allclose(found[b, k], wanted, rtol=1e-4)
    one = torch.full((1, 1, 5, 4), -1e4)
    one[0, 0, 3, 2] = 1e4
    assert mean_places(one).tolist() == [[[2, 3]]]


def test_the_graph_reads_where_the_heatmaps_are(example, randomised):
    net = randomised(small()).eval()
    pose, features = example(3, 14)
    with torch.no_grad():
        found, *refined = net(pose, features)
        maps = net.head(*(features[level] for level in net.levels))
        heat = torch.nn.functional.conv2d(maps[2], net.heat.weight, net.heat.bias, padding=1)
        probability = heat.flatten(2).softmax(-1)
        columns, rows = (torch.arange(192) % 12).float(), (torch.arange(192) // 12).float()
        places = 4 * torch.stack([probability @ columns, probability @ rows], -1)
        # the IGP-GCN reads where its input is, so give it the same maps at these places
        plain = IGPGCN((6, 8, 10), (4, 8, 16), (48, 64), 14, CROWDPOSE.limbs, 8, (16, 12, 8)).eval()
        plain.load_state_dict({k: v for k, v in net.state_dict().items() if "heat" not in k})
        expected = plain.refine(pose, maps, places)
    torch.testing.assert_close(found, places, rtol=1e-4, atol=1e-3)
    assert len(refined) == 3
    for mine, wanted in zip(refined, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-2)
    assert not torch.allclose(expected[2], plain(pose, features)[2], atol=1e-2)


def test_gradients_reach_the_heatmaps_through_the_reading(example, randomised):
    net = randomised(small())
    pose, features = example(3, 14)
    _, *refined = net(pose, features)
    refined[2].sum().backward()
    assert net.heat.weight.grad.abs().max() > 0
    assert all(p.grad is not None for n, p in net.named_parameters() if "outputs" not in n)


def test_backends_agree(example, randomised):
    pyg, dense = randomised(small()).eval(), small("dense").eval()
    dense.load_state_dict(pyg.state_dict())
    torch.testing.assert_close(pyg(*example(2, 14)), dense(*example(2, 14)), rtol=1e-4, atol=1e-3)
