import torch
from torch import nn
from torch.nn import functional as F

from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc_maps import SimCCMapsHead

CODEC = SimCC((96, 128), label="gaussian")
FEATURE = (24, 32)


def head(joints=2, **options):
    """A head whose maps are its input channels."""
    head = SimCCMapsHead(joints, joints, FEATURE, CODEC.bins, hidden=joints, **options)
    depthwise, pointwise, _, last = head.maps
    with torch.no_grad():
        nn.init.zeros_(depthwise.weight)
        depthwise.weight[:, 0, 1, 1] = 1
        for layer in (pointwise, last):
            layer.weight.copy_(torch.eye(joints)[:, :, None, None])
            nn.init.zeros_(layer.bias)
    return head


def test_forward_against_a_loop():
    torch.manual_seed(0)
    net = SimCCMapsHead(8, 3, FEATURE, CODEC.bins, hidden=6)
    feature = torch.randn(2, 8, 32, 24)
    x, y = net(feature)
    assert x.shape == (2, 3, CODEC.bins[0])
    assert y.shape == (2, 3, CODEC.bins[1])
    maps = net.maps(feature)
    for b in range(2):
        for k in range(3):
            lifted = F.leaky_relu(maps[b, k] + 2, 0.01).flatten()
            torch.testing.assert_close(x[b, k], net.mlp_head_x(lifted))
            torch.testing.assert_close(y[b, k], net.mlp_head_y(lifted))


def test_a_peak_is_read_where_movenet_puts_its_cells():
    """Cell i is centred on pixel 4 i + 1.75; bins are half pixels."""
    maps = torch.zeros(1, 2, 32, 24) - 2
    maps[0, 0, 10, 5] = 9
    maps[0, 1, 31, 23] = 9
    (first, second), _ = (pose[0] for pose in CODEC.decode(head()(maps)))
    torch.testing.assert_close(first, torch.tensor([21.75, 41.75]), atol=0.25, rtol=0)
    torch.testing.assert_close(second, torch.tensor([93.75, 125.75]), atol=0.25, rtol=0)


def test_the_start_is_a_sum_over_rows_and_columns():
    maps = torch.rand(1, 1, 32, 24) * 8
    x, y = head(1, cell_center=0.0)(maps)
    torch.testing.assert_close(x[0, 0, ::8], (maps + 2).sum(2)[0, 0])
    torch.testing.assert_close(y[0, 0, ::8], (maps + 2).sum(3)[0, 0])


def test_background_teaches_the_maps_too():
    maps = torch.full((1, 1, 32, 24), -9.0, requires_grad=True)
    net = head(1)
    net.maps[2] = nn.Identity()  # the ReLU between, which -9 would not pass
    x, y = net(maps)
    (x[0, 0, 3] + y[0, 0, 3]).backward()
    assert maps.grad is not None
    assert maps.grad.abs().sum() > 0
