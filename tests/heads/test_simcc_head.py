import pytest
import torch
import torch.nn.functional as F

from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.simcc_kl import simcc_kl

CODEC = SimCC((96, 128))
FEATURE = (24, 32)


def identity_head(joints=1):
    """A head that starts as the projection and reads its input channels as the joints' maps."""
    head = SimCCHead(joints, joints, FEATURE, CODEC.bins, "projection")
    with torch.no_grad():
        head.final_layer.weight.copy_(torch.eye(joints)[:, :, None, None])
        head.final_layer.get_parameter("bias").zero_()
    return head


def test_parameters_are_those_of_the_reference():
    head = SimCCHead(32, 17, (48, 64), (384, 512))
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert shapes == {
        "final_layer.weight": (17, 32, 1, 1),
        "final_layer.bias": (17,),
        "mlp_head_x.weight": (384, 3072),
        "mlp_head_x.bias": (384,),
        "mlp_head_y.weight": (512, 3072),
        "mlp_head_y.bias": (512,),
    }
    assert sum(p.numel() for p in head.parameters()) == 2_753_969  # SimCC-W32's 31.290 - 28.536 M


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
@pytest.mark.parametrize("init", ["official", "projection"])
def test_forward_against_a_loop(batch, joints, init):
    torch.manual_seed(0)
    head = SimCCHead(5, joints, (3, 4), (6, 8), init)
    feature = torch.randn(batch, 5, 4, 3)
    logits = head(feature)
    assert logits.x.shape == (batch, joints, 6)
    assert logits.y.shape == (batch, joints, 8)
    kernel, offset = head.final_layer.weight[:, :, 0, 0], head.final_layer.bias
    for b in range(batch):
        for k in range(joints):
            cells = [
                (kernel[k] * feature[b, :, row, col]).sum() + offset[k]
                for row in range(4)
                for col in range(3)
            ]
            for layer, axis in ((head.mlp_head_x, logits.x), (head.mlp_head_y, logits.y)):
                want = layer.weight @ torch.stack(cells) + layer.bias
                torch.testing.assert_close(axis[b, k], want, atol=1e-5, rtol=1e-4)


def test_official_start():
    torch.manual_seed(0)
    head = SimCCHead(48, 17, (48, 64), (384, 512))
    assert head.final_layer.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert head.final_layer.bias.abs().max() == 0
    bound = 3072**-0.5  # torch's own: U(-1/sqrt(fan_in), 1/sqrt(fan_in))
    for layer in (head.mlp_head_x, head.mlp_head_y):
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert layer.bias.abs().max() > 0


@pytest.mark.parametrize(("row", "col"), [(0, 0), (5, 17), (30, 1), (16, 12), (31, 23)])
def test_projection_decodes_a_hot_cell_to_its_pixel(row, col):
    feature = torch.zeros(1, 1, 32, 24)
    feature[0, 0, row, col] = 50.0
    pose = CODEC.decode(identity_head()(feature))
    assert pose.joints[0, 0].tolist() == [4 * col, 4 * row]


def test_projection_decodes_between_cells():
    feature = torch.zeros(1, 1, 32, 24)
    feature[0, 0, 10, 7], feature[0, 0, 10, 8] = 50.0, 50.0
    x = identity_head()(feature).x[0, 0]
    assert x[8 * 7 : 8 * 8 + 1].std() < 1e-5  # level from pixel 28 to 32, and falling outside
    assert x[8 * 7] > x[8 * 7 - 1] > x[8 * 6]


def test_projection_shifts_with_its_input():
    torch.manual_seed(0)
    head = identity_head(14)
    inner = torch.randn(1, 14, 20, 12)
    here = head(F.pad(inner, (4, 8, 4, 8)))
    there = head(F.pad(inner, (7, 5, 6, 6)))  # 3 columns right, 2 rows down
    torch.testing.assert_close(there.x[..., 24:], here.x[..., :-24])
    torch.testing.assert_close(there.y[..., 16:], here.y[..., :-16])


def test_projection_ignores_the_level_of_a_map():
    logits = identity_head(2)(torch.full((1, 2, 32, 24), 3.0))
    assert all(axis.std(-1).max() < 1e-4 for axis in logits)


def test_projection_keeps_the_scale_of_a_map():
    torch.manual_seed(0)
    logits = identity_head(17)(torch.randn(3, 17, 32, 24))
    # unit norm at the cells, between them less: the mean of (1-t)^2 + t^2 is 2/3
    assert all(0.7 < axis.std().item() < 0.95 for axis in logits)


def test_projection_gives_features_a_gradient_at_once():
    target = CODEC.encode(torch.full((3, 17, 2), 40.0), torch.ones(3, 17))
    size = {}
    for init in ("official", "projection"):
        torch.manual_seed(0)
        feature = torch.randn(3, 32, 32, 24, requires_grad=True)
        head = SimCCHead(32, 17, FEATURE, CODEC.bins, init)
        simcc_kl(head(feature), target).backward()
        size[init] = feature.grad.norm().item()
        assert head.final_layer.weight.grad.norm() > 0
    assert size["projection"] > 100 * size["official"]


def test_bf16_autocast_decodes_to_float32():
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        logits = identity_head(17)(torch.randn(1, 17, 32, 24))
        pose = CODEC.decode(logits)
    assert logits.x.dtype == torch.bfloat16
    assert pose.joints.dtype == torch.float32


def test_errors():
    with pytest.raises(ValueError, match="init must be 'official' or 'projection', got 'zeros'"):
        SimCCHead(32, 17, FEATURE, CODEC.bins, "zeros")
    with pytest.raises(ValueError, match=r"\(B, C, 32, 24\), got \(1, 32, 24, 32\)"):
        SimCCHead(32, 17, FEATURE, CODEC.bins)(torch.zeros(1, 32, 24, 32))
