import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from kdpose.refiners.igp_gcn import IGPGCN, sample_at_joints
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import Pose

CHANNELS, STRIDES = (32, 64, 128, 256), (4, 8, 16, 32)
SKELETONS = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)


def naive_sample(features, joints, stride):
    """Bilinear reading at index x / stride, clamped to the map, one joint at a time."""
    batch, channels, height, width = features.shape
    out = torch.zeros(batch, joints.shape[1], channels)
    for b in range(batch):
        for k, (x, y) in enumerate(joints[b].tolist()):
            u, v = min(max(x / stride, 0), width - 1), min(max(y / stride, 0), height - 1)
            left, top = math.floor(u), math.floor(v)
            for i in {left, min(left + 1, width - 1)}:
                for j in {top, min(top + 1, height - 1)}:
                    share = (1 - abs(u - i)) * (1 - abs(v - j))
                    out[b, k] = out[b, k] + share * features[b, :, j, i]
    return out


class Written:
    """The whole method in eval mode, from a state dict and the limbs alone."""

    def __init__(self, state, limbs, joints):
        self.state, self.linked = state, torch.eye(joints, dtype=torch.bool)
        for a, b in limbs:
            self.linked[a, b] = self.linked[b, a] = True

    def conv(self, name, x):
        eye = torch.eye(len(self.linked))
        matrix = torch.full(eye.shape, -9e15)
        matrix[self.linked] = self.state[f"{name}.edge_score"]
        matrix, (own, other) = matrix.softmax(1), self.state[f"{name}.weight"]
        kept, passed = (matrix * eye) @ (x @ own), (matrix * (1 - eye)) @ (x @ other)
        return kept + passed + self.state[f"{name}.bias"]

    def norm(self, name, x):
        mean, var, weight, bias = (
            self.state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def conv2d(self, name, x):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv2d(x, weight, bias, padding=1).clamp(min=0)

    def block(self, name, x):
        change = self.norm(f"{name}.reduce_norm", self.conv(f"{name}.reduce", x))
        x = self.norm(f"{name}.norm", x + self.conv(f"{name}.expand", change))
        hidden = self.linear(f"{name}.attention.0", x.sum(1) / x.shape[1]).clamp(min=0)
        gate = 1 / (1 + torch.exp(-self.linear(f"{name}.attention.2", hidden)))
        return x * (1 + gate[:, :, None])

    def fuse(self, name, coarse, fine):
        weight, bias = self.state[f"{name}.up.weight"], self.state[f"{name}.up.bias"]
        up = F.conv_transpose2d(coarse, weight, bias, stride=2).clamp(min=0)
        up = up[:, :, : fine.shape[2], : fine.shape[3]]
        pooled = torch.cat([up.flatten(2).mean(2), fine.flatten(2).mean(2)], 1)
        squeezed = self.linear(f"{name}.squeeze", pooled).clamp(min=0)
        gate = self.linear(f"{name}.excite", squeezed)
        return self.conv2d(f"{name}.conv", up / (1 + torch.exp(-gate))[:, :, None, None] + fine)

    def forward(self, pose, maps16_8_4, size, residual):
        coarse, middle, fine = maps16_8_4
        maps = [self.conv2d("head.conv", coarse)]
        maps.append(self.fuse("head.fuse8", maps[0], middle))
        maps.append(self.fuse("head.fuse4", maps[1], fine))
        size = torch.tensor(size)
        start = 2 * pose.joints / size - 1
        nodes = self.conv("input", torch.cat([start, pose.scores[:, :, None]], 2))
        nodes = self.block("pose_block", self.norm("input_norm", nodes))
        out = []
        for i, stride in enumerate((16, 8, 4)):
            nodes = torch.cat([naive_sample(maps[i], pose.joints, stride), nodes], 2)
            nodes = self.block(f"blocks.{i}", nodes)
            refined = self.conv(f"outputs.{i}", nodes) + (start if residual else 0)
            out.append((refined + 1) / 2 * size)
        return out


@SKELETONS
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(48, 64), (72, 88)], ids=["whole", "odd"])
def test_equals_the_method_written_out(size, skeleton, batch, residual, make, example, randomised):
    model = randomised(make(skeleton, size, residual=residual)).eval()
    pose, (fine, middle, coarse) = example(batch, len(skeleton), size)
    with torch.no_grad():
        refined = model(pose, (fine, middle, coarse))
        written = Written(model.state_dict(), skeleton.limbs, len(skeleton))
        expected = written.forward(pose, (coarse, middle, fine), size, residual)
    assert [joints.shape for joints in refined] == [(batch, len(skeleton), 2)] * 3
    for joints, reference in zip(refined, expected, strict=True):
        torch.testing.assert_close(joints, reference, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("skeleton", "count"), [(COCO, 2_406_654), (CROWDPOSE, 2_405_262)])
def test_parameter_count_at_hrnet_w32(skeleton, count):
    model = IGPGCN(CHANNELS, STRIDES, (192, 256), len(skeleton), skeleton.limbs)
    assert sum(p.numel() for p in model.parameters()) == count
    convs = (128 * 9 + 1) * 256 + (64 * 9 + 1) * 128 + (32 * 9 + 1) * 128
    ups = (256 * 4 * 64 + 64) + (128 * 4 * 32 + 32)
    gates = (128 * 64 + 64) + (64 * 64 + 64) + (64 * 32 + 32) + (32 * 32 + 32)
    assert sum(p.numel() for p in model.head.parameters()) == convs + ups + gates


def test_multiply_adds_at_hrnet_w32(example):
    model = IGPGCN(CHANNELS, STRIDES, (192, 256), 17, COCO.limbs, backend="dense").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*example(1, 17, (192, 256), CHANNELS, STRIDES))
    # 3x3 convs 128-256, 64-128, 32-128 and 2x2 upsamplings 256-64, 128-32 on 16x12 to 64x48 cells
    head = 192 * 9 * 128 * 256 + 768 * 256 * 64 + 768 * 9 * 64 * 128
    head += 3072 * 128 * 32 + 3072 * 9 * 32 * 128 + 3 * 64 * 64 + 3 * 32 * 32
    assert sum(counter.get_flop_counts()["IGPGCN.head"].values()) == 2 * head
    assert counter.get_total_flops() / 2e9 == pytest.approx(0.282, abs=1e-3)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_sampling_reads_the_cell_the_joint_lies_in(stride):
    width, height = 192 // stride, 256 // stride
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    own_pixel = stride * torch.stack([x, y])[None].float()  # every cell holds its crop position
    last = torch.tensor([192.0 - stride, 256.0 - stride])
    inside = torch.tensor([[0.0, 0.0], [37.25, 101.5], [stride, 3.0 * stride], last.tolist()])
    outside = torch.tensor([[-20.0, 50.0], [191.9, 300.0]])
    found = sample_at_joints(own_pixel, torch.cat([inside, outside])[None], stride)[0]
    torch.testing.assert_close(found[:4], inside, rtol=0, atol=1e-4)
    border = torch.stack([torch.tensor([0.0, 50.0]), last])
    torch.testing.assert_close(found[4:], border, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_sampling_equals_bilinear_loops_in_value_and_gradient(batch):
    features = torch.randn(batch, 5, 7, 4, requires_grad=True)
    joints = torch.rand(batch, 14, 2) * torch.tensor([40.0, 64.0]) - 4
    found, expected = (f(features, joints, 8) for f in (sample_at_joints, naive_sample))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    goal = torch.randn(found.shape)
    grads = [torch.autograd.grad((out * goal).sum(), features)[0] for out in (found, expected)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-5)


def test_no_gradient_reaches_the_pose_through_the_sampling(make, example, randomised):
    model = randomised(make()).eval()
    pose, features = example(2, 14)
    joints = pose.joints.requires_grad_()
    with torch.no_grad():
        model.input.weight.zero_()  # the other way from pose to result
    (grad,) = torch.autograd.grad(model(pose, features)[2].sum(), joints)
    assert torch.count_nonzero(grad) == 0
    moved = model(pose._replace(joints=joints + 9), features)[2]
    assert (moved - model(pose, features)[2]).abs().max() > 1e-3


@SKELETONS
def test_backends_agree_and_share_checkpoints(skeleton, make, example, randomised):
    pyg, dense = randomised(make(skeleton)), make(skeleton, backend="dense")
    dense.load_state_dict(pyg.state_dict(), strict=True)
    pose, features = example(3, len(skeleton))
    grads = []
    for model in (pyg, dense):
        refined = model(pose, features)
        loss = sum((joints - 20).square().mean() for joints in refined)
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(pyg(pose, features), dense(pose, features), rtol=1e-4, atol=1e-3)


def test_residual_starts_at_the_initial_pose_and_can_leave_it(make, example):
    model = make(residual=True)
    pose, features = example(3, 14)
    refined = model(pose, features)
    for joints in refined:
        assert torch.equal(joints, pose.joints)
    (refined[2] - 30).abs().mean().backward()
    assert model.outputs[2].weight.grad.abs().max() > 0


def test_absolute_output_of_zero_is_the_middle_of_the_crop(make, example):
    model = make()
    with torch.no_grad():
        for output in model.outputs:
            output.weight.zero_()
            output.bias.zero_()
    for joints in model(*example(3, 14)):
        assert torch.equal(joints, torch.tensor([24.0, 32.0]).expand(3, 14, 2))


def test_convolutions_start_with_the_variance_of_their_fan_out():
    model = IGPGCN(CHANNELS, STRIDES, (192, 256), 14, CROWDPOSE.limbs)
    assert model.head.conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert model.head.fuse8.conv.weight.std().item() == pytest.approx(
        (2 / (128 * 9)) ** 0.5, rel=0.02
    )


def test_the_score_enters_only_where_asked(make, example, randomised):
    pose, features = example(2, 14)
    doubted = pose._replace(scores=pose.scores / 2)
    for with_score in (True, False):
        model = randomised(make(with_score=with_score)).eval()
        change = (model(pose, features)[2] - model(doubted, features)[2]).abs().max()
        assert (change > 1e-4) == with_score


def test_persons_do_not_mix_in_eval_mode(make, example, randomised):
    model = randomised(make()).eval()
    pose, features = example(3, 14)
    together = model(pose, features)[2]
    for b in range(3):
        alone = model(Pose(pose.joints[b : b + 1], pose.scores[b : b + 1]),
                      tuple(f[b : b + 1] for f in features))[2]  # fmt: skip
        torch.testing.assert_close(alone[0], together[b], rtol=1e-4, atol=1e-3)


def test_maps_are_found_by_stride(make, example):
    pose, features = example(2, 14)
    coarse_first = IGPGCN(
        (5, 10, 8, 6), (32, 16, 8, 4), (48, 64), 14, CROWDPOSE.limbs, 8, (16, 12, 8)
    ).eval()
    model = make().eval()
    coarse_first.load_state_dict(model.state_dict())
    unused = torch.full((2, 5, 2, 1), torch.nan)
    expected = model(pose, features)
    torch.testing.assert_close(coarse_first(pose, (unused, *features[::-1])), expected)


def test_rejects_missing_strides():
    with pytest.raises(ValueError, match=r"strides 16, 8 and 4, got strides \[4, 8, 32\]"):
        IGPGCN((6, 8, 10), (4, 8, 32), (48, 64), 14, CROWDPOSE.limbs)
    with pytest.raises(ValueError, match=r"with channels \[6, 8\]"):
        IGPGCN((6, 8), (4, 8, 16), (48, 64), 14, CROWDPOSE.limbs)


def test_rejects_widths_that_blocks_cannot_split(make):
    with pytest.raises(ValueError, match=r"multiples of 4, got 10, \(16, 12, 8\)"):
        make(hidden=10)


def test_rejects_maps_that_do_not_double(make, example):
    pose, (fine, middle, coarse) = example(1, 14)
    model = make()
    with pytest.raises(ValueError, match=r"double in size, got \(4, 3\) followed by \(6, 6\)"):
        model(pose, (fine, middle[:, :, :6], coarse))
    with pytest.raises(ValueError, match=r"double in size, got \(8, 6\) followed by \(16, 10\)"):
        model(pose, (fine[..., :10], middle, coarse))
