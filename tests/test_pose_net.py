from functools import partial

import pytest
import torch
from torch import nn

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.buildable import build
from kdpose.checkpoints.load import SHIPPED, load_net
from kdpose.codecs.simcc import SimCC
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset
from kdpose.heads.simcc import SimCCHead
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import Pose

BOTH = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=["coco", "crowdpose"])
SIZE = (64, 96)


class Stub(nn.Module):
    """A backbone that hands its input on, shrunk, and remembers it."""

    channels = (3,)
    strides = (4,)

    def forward(self, image):
        self.seen = image
        return (nn.functional.avg_pool2d(image, 4),)


def hrnet(skeleton, size=SIZE, **codec):
    torch.manual_seed(0)
    net = PoseNet(HRNet("hrnet_w18_small"), SimCCHead, SimCC(size, **codec), skeleton)
    return sharpened(net).eval()


def sharpened(net):
    """Weights that tell joints and bins apart, as a trained head's do, without saturation."""
    nn.init.normal_(net.head.final_layer.weight, std=0.1)
    nn.init.normal_(net.head.mlp_head_x.weight, std=0.005)
    nn.init.normal_(net.head.mlp_head_y.weight, std=0.005)
    return net


def refined(skeleton=CROWDPOSE, **options):
    student = hrnet(skeleton)
    small = partial(IGPGCN, hidden=16, widths=(16, 16, 16), **options)
    return RefinedPoseNet(student, small)


def crops(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 24, 16), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(4, -1).repeat_interleave(4, -2)


def swap(joints, order):
    """Where a mirrored person's joints are, joint by joint, and whose they are."""
    swapped = torch.empty_like(joints)
    for k, other in enumerate(order):
        swapped[:, k, 0] = SIZE[0] - 1 - joints[:, other, 0]
        swapped[:, k, 1] = joints[:, other, 1]
    return swapped


@BOTH
@pytest.mark.parametrize("batch", [1, 3])
def test_shapes(skeleton, batch):
    net = hrnet(skeleton)
    with torch.no_grad():
        output = net(crops(batch))
        pose = net.pose(crops(batch), flip=True)
    k = len(skeleton)
    assert output.logits.x.shape == (batch, k, 128)
    assert output.logits.y.shape == (batch, k, 192)
    assert [tuple(f.shape) for f in output.features] == [
        (batch, 16, 24, 16), (batch, 32, 12, 8), (batch, 64, 6, 4), (batch, 128, 3, 2),
    ]  # fmt: skip
    assert pose.joints.shape == (batch, k, 2)
    assert pose.scores.shape == (batch, k)


def test_normalisation_is_imagenets():
    net = PoseNet(Stub(), SimCCHead, SimCC(SIZE), CROWDPOSE)
    colors = torch.tensor([124, 116, 104, 255, 0, 51], dtype=torch.uint8).view(2, 3, 1, 1)
    net(colors.expand(2, 3, 96, 64))
    expected = [
        [(124 / 255 - 0.485) / 0.229, (116 / 255 - 0.456) / 0.224, (104 / 255 - 0.406) / 0.225],
        [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225],
    ]
    seen = net.backbone.seen
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen[:, :, 5, 7], torch.tensor(expected))
    assert "mean" not in net.state_dict()


def test_bytes_and_floats_are_the_same():
    net, image = hrnet(CROWDPOSE), crops(2)
    with torch.no_grad():
        torch.testing.assert_close(net(image).logits.x, net(image.float()).logits.x)


def test_a_crop_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"feature must be \(B, C, 24, 16\)"):
        hrnet(CROWDPOSE)(torch.zeros(1, 3, 128, 64))


@pytest.mark.parametrize(("name", "millions"), [("hrnet_w32", 31.290), ("hrnet_w48", 66.349)])
def test_parameter_counts_are_simccs(name, millions):
    with torch.device("meta"):
        net = PoseNet(HRNet(name), SimCCHead, SimCC((192, 256)), COCO)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize(
    "backbone",
    [partial(HRNet, "hrnet_w18_small"), partial(TimmPyramid, "mobilenetv4_conv_small_050")],
)
def test_the_simcc_loss_trains_every_parameter(backbone):
    torch.manual_seed(0)
    net = PoseNet(backbone(), SimCCHead, SimCC(SIZE), CROWDPOSE)
    joints = torch.rand(2, 14, 2) * torch.tensor(SIZE)
    target = net.codec.encode(joints, torch.ones(2, 14))
    simcc_kl(net(crops(2)).logits, target).backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle
    assert all(p.grad.isfinite().all() for p in net.parameters())


@BOTH
@pytest.mark.parametrize("label", ["smooth", "gaussian"])
def test_a_mirrored_crop_has_the_mirrored_pose(skeleton, label):
    net, image = hrnet(skeleton, label=label), crops(3)
    with torch.no_grad():
        pose = net.pose(image, flip=True)
        mirrored = net.pose(image.flip(-1), flip=True)
        plain = net.pose(image)
    order = skeleton.flip_order
    same = (mirrored.joints - swap(pose.joints, order)).abs().amax(-1) < 1e-4
    # not all: the last bin, half a pixel past the last pixel, has no mirror image, and joints that
    # a random net sees in it or at the other end weigh differently in the two averages
    assert same.float().mean() > 0.95
    scores = pose.scores[:, order]
    torch.testing.assert_close(mirrored.scores[same], scores[same], rtol=0.1, atol=0)
    assert (plain.joints - pose.joints).abs().max() > 1  # the flip has had its say


def test_flip_averages_probabilities():
    net, image = hrnet(CROWDPOSE), crops(1)
    with torch.no_grad():
        logits, back = net(image).logits, net(image.flip(-1)).logits
        merged = net.logits(image, flip=True)
    order = list(CROWDPOSE.flip_order)
    y = (logits.y.softmax(-1) + back.y[:, order].softmax(-1)) / 2
    torch.testing.assert_close(merged.y.softmax(-1), y)
    x = (logits.x[..., :127].softmax(-1) + back.x[:, order, :127].flip(-1).softmax(-1)) / 2
    ours = merged.x[..., :127].exp()
    torch.testing.assert_close(ours, x, rtol=0.1, atol=2e-3)


@BOTH
@pytest.mark.parametrize("batch", [1, 3])
def test_refined_shapes(skeleton, batch):
    net = refined(skeleton).eval()
    with torch.no_grad():
        initial, poses = net(crops(batch))
        student = net.student.pose(crops(batch))
    assert len(poses) == 3
    assert all(pose.shape == (batch, len(skeleton), 2) for pose in poses)
    assert torch.equal(initial.joints, student.joints)
    assert torch.equal(initial.scores, student.scores)


def test_the_student_stays_as_stage_1_left_it():
    net = refined(with_score=True)
    before = {n: v.clone() for n, v in net.student.state_dict().items()}
    start = {n: v.clone() for n, v in net.refiner.named_parameters()}
    assert net.train() is net
    assert net.training
    assert net.refiner.training
    assert not any(module.training for module in net.student.modules())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1)
    _, poses = net(crops(3))
    assert all(pose.requires_grad for pose in poses)
    torch.stack(list(poses)).square().mean().backward()
    optimizer.step()
    after = net.student.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None and not p.requires_grad for p in net.student.parameters())
    moved = [n for n, p in net.refiner.named_parameters() if not torch.equal(p, start[n])]
    assert len(moved) > 0.9 * len(start)
    net.eval()
    assert not net.refiner.training


def test_the_file_of_a_refined_net_holds_the_student():
    net = refined()
    again = refined()
    nn.init.normal_(again.student.head.final_layer.weight)
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(
            again.eval().pose(crops(1)).joints, net.eval().pose(crops(1)).joints
        )


@BOTH
def test_refined_pose_is_the_last_blocks_with_the_students_scores(skeleton):
    net = refined(skeleton).eval()
    with torch.no_grad():
        pose, (initial, poses) = net.pose(crops(2)), net(crops(2))
    assert torch.equal(pose.joints, poses[-1])
    assert torch.equal(pose.scores, initial.scores)


@BOTH
def test_refined_flip_starts_both_views_from_the_students_merged_pose(skeleton):
    net, image = refined(skeleton).eval(), crops(2)
    order = list(skeleton.flip_order)
    with torch.no_grad():
        pose = net.pose(image, flip=True)
        start = net.student.pose(image, flip=True)
        other = Pose(swap(start.joints, order), start.scores[:, order])
        there = net.refiner(start, net.student(image).features)[-1]
        back = net.refiner(other, net.student(image.flip(-1)).features)[-1]
    torch.testing.assert_close(pose.joints, (there + swap(back, order)) / 2)
    torch.testing.assert_close(pose.scores, start.scores)
    assert (there - pose.joints).abs().max() > 0.1


@pytest.mark.slow
def test_under_bfloat16_poses_stay_those_of_float32_on_real_crops(real_data):
    """Where logits are bfloat16, most joints tie between bins and argmax takes the first."""
    folder = real_data / "coco_mini"
    net = load_net(SHIPPED).net
    net = net.student if isinstance(net, RefinedPoseNet) else net
    persons = load_persons(folder / "annotations/person_keypoints_val2017.json", COCO)
    data = PoseDataset(persons, folder / "val2017", COCO, net.codec.input_size)
    crops = data.__getitems__(list(range(len(data)))).image
    with torch.inference_mode():
        exact = net.pose(crops)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = net.pose(crops)
    assert rounded.joints.dtype == torch.float32
    near = (rounded.joints - exact.joints).norm(dim=-1) < 8  # an unsure joint may jump
    sure = exact.scores > exact.scores.median()
    assert near[sure].float().mean() > 0.95
    moved = (rounded.joints - exact.joints)[near & sure]
    noise = 3 * moved.std(0) / len(moved) ** 0.5  # ties would move them by 0.7 px
    assert (moved.mean(0).abs() < noise.clamp(min=0.02)).all()
    assert noise.max() < 0.15  # far below what ties do; 0.100 without AMX


def test_pixels_are_normalised_as_the_backbones_weights_were(tiny_student):
    """EfficientNet-Lite's weights know mean and deviation 0.5, others ImageNet's."""
    image = torch.tensor([0.0, 127.5, 255.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    plain = build(tiny_student, "test")
    assert ((image - plain.mean) / plain.std)[0, :, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], abs=1e-6
    )
    backbone = {**tiny_student["backbone"], "mean": [0.5] * 3, "std": [0.5] * 3}
    lite = build({**tiny_student, "backbone": backbone}, "test")
    assert ((image - lite.mean) / lite.std)[0, 0, 0].tolist() == [-1, 0, 1]
    for wrong in ([0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.5, 127.0]):
        broken = {**tiny_student, "backbone": {**backbone, "std": wrong}}
        with pytest.raises(ValueError, match=r"backbone\.std must be three numbers in \(0, 1\]"):
            build(broken, "test")
