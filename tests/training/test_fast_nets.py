from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from kdpose.backbones.hrnet import HRNet
from kdpose.backbones.timm_pyramid import TimmPyramid
from kdpose.checkpoints.pretrained import build_backbone
from kdpose.cli import CONF
from kdpose.codecs.simcc import SimCC
from kdpose.heads.simcc import SimCCHead
from kdpose.pose_net import PoseNet, RefinedPoseNet
from kdpose.refiners.igp_gcn import IGPGCN
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.fast_nets import compile_parts, folded

SMALL = "mobilenetv4_conv_small_050"


def net(backbone=None, size=(64, 64)):
    torch.manual_seed(0)
    backbone = backbone or TimmPyramid(SMALL, neck_channels=16)
    head = partial(SimCCHead, init="projection")
    return PoseNet(backbone, head, SimCC(size, label="gaussian"), CROWDPOSE)


def crops(count, size=(64, 64)):
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, size[1], size[0])
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def lived_in(model):
    """Batch norms with statistics and weights of their own, as after training."""
    generator = torch.Generator().manual_seed(1)
    for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
        for values in (norm.running_var, norm.weight.data):
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
        for values in (norm.running_mean, norm.bias.data):
            values.copy_(torch.randn(values.shape, generator=generator) * 0.2)
    return model.eval()


def norms(model):
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(
    ("backbone", "kept"),
    [
        (lambda: TimmPyramid(SMALL, neck_channels=16), 0),
        (lambda: TimmPyramid("resnet10t", neck_channels=16), 0),
        (lambda: TimmPyramid("repvit_m0_9", neck_channels=16), 23),  # these read sums
        (lambda: HRNet("hrnet_w18_small"), 0),
    ],
    ids=["mobilenetv4", "resnet10", "repvit", "hrnet"],
)
def test_folded_nets_give_what_they_gave(backbone, kept):
    whole = lived_in(net(backbone())).double()
    fast = folded(whole)
    assert norms(fast) == kept < norms(whole)
    image = crops(3)
    with torch.no_grad():
        # the input is cast to float32 by both; all else is in float64
        for a, b in zip(whole.backbone(image.double()), fast.backbone(image.double()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * a.abs().max().item())


def test_the_original_stays():
    whole = lived_in(net())
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    folded(whole)
    assert whole.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in whole.state_dict().items())


class Twice(nn.Module):
    """A convolution whose output is read by a batch norm and by the sum after it."""

    channels, strides = (8,), (4,)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, image):
        made = self.conv(image)
        return (self.norm(made) + made,)


class Before(Twice):
    """A batch norm that reads no convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image):
        return (self.conv(self.norm(image)),)


def test_what_cannot_be_folded():
    with pytest.raises(ValueError, match=r"moved the finest map by .* module.fold_teacher=false"):
        folded(lived_in(net(Twice())))
    with pytest.raises(ValueError, match="must be in eval mode"):
        folded(net())
    kept = folded(lived_in(net(Before())))
    assert norms(kept) == 1


@pytest.mark.slow
def test_compiled_parts_keep_names_and_values():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()  # other tests of this process compile as well
    refined = RefinedPoseNet(lived_in(net()), partial(IGPGCN, hidden=16, widths=(16, 16, 16)))
    refined.eval()
    names, image = list(refined.state_dict()), crops(2)
    before = refined.pose(image, flip=True)
    compile_parts(refined, {"backend": "aot_eager"})
    after = refined.pose(image, flip=True)
    assert list(refined.state_dict()) == names
    torch.testing.assert_close(after.joints, before.joints)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # backbone and refiner
    compile_parts(refined, {"backend": "aot_eager"})  # again: nothing new
    refined.pose(image)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


GROUP = sorted(path.stem for path in (Path(CONF) / "backbone").glob("*.yaml"))


@pytest.mark.parametrize("name", [n for n in GROUP if n not in ("hrnet_w32", "hrnet_w48")])
def test_every_backbone_of_the_group_trains_whole(name):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=[f"backbone={name}", "codec.input_size=[64,64]"])
    model = net(build_backbone(cfg.backbone))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    moved = set()
    for _ in range(2):  # a layer before a scale that starts at zero moves in the second step
        optimizer.zero_grad()
        logits = model(crops(2)).logits
        (logits.x * torch.randn_like(logits.x)).sum().add(logits.y.square().sum()).backward()
        moved |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert moved == {n for n, _ in model.named_parameters()}
