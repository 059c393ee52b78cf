import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kdpose.backbones.hourglass import Hourglass
from kdpose.cli import CONF
from kdpose.codecs.heatmap import Heatmap
from kdpose.heads.heatmap import HeatmapHead
from kdpose.losses.terms import total
from kdpose.pose_net import PoseNet
from kdpose.skeletons.known import COCO


class Written:
    """The method in eval mode, from a state dict alone."""

    def __init__(self, state, depth):
        self.state, self.depth = state, depth

    def conv(self, name, x, **options):
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=padding, **options)

    def norm(self, name, x):
        mean, var, weight, bias = (
            self.state[f"{name}.{k}"][:, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def residual(self, name, x):
        y = x
        for place in (0, 3, 6):
            y = self.conv(f"{name}.body.{place + 2}", self.norm(f"{name}.body.{place}", y))
        return y + (self.conv(f"{name}.skip", x) if f"{name}.skip.weight" in self.state else x)

    def halved(self, x):
        """The larger of each two neighbours, zeros of no use at an odd edge."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf)
        return x.unflatten(-1, (-1, 2)).amax(-1).unflatten(-2, (-1, 2)).amax(-2)

    def hourglass(self, name, x, level=0):
        """Published as a recursion: each level around the next."""
        if level == self.depth:
            return self.residual(f"{name}.middle", x), []
        beside = self.residual(f"{name}.beside.{level}", x)
        low = self.residual(f"{name}.down.{level}", self.halved(x))
        inner, sums = self.hourglass(name, low, level + 1)
        up = self.residual(f"{name}.up.{self.depth - 1 - level}", inner)
        doubled = up.repeat_interleave(2, -1).repeat_interleave(2, -2)
        out = beside + doubled[..., : x.shape[-2], : x.shape[-1]]
        return out, [out, *sums]

    def forward(self, image, stacks):
        x = self.norm("stem.1", self.conv("stem.0", image, stride=2))
        x = self.halved(self.residual("widen", x))
        x = self.residual("enter.1", self.residual("enter.0", x))
        between = []
        for i in range(stacks):
            y, sums = self.hourglass(f"hourglasses.{i}", x)
            y = self.norm(
                f"after.{i}.2", self.conv(f"after.{i}.1", self.residual(f"after.{i}.0", y))
            )
            if i < stacks - 1:
                between.append(self.conv(f"scores.{i}", y))
                again = self.conv(f"from_scores.{i}", between[-1])
                x = x + self.conv(f"from_map.{i}", y) + again
        return [y, *sums[1:]], between


@pytest.mark.parametrize("stacks", [1, 2])
@pytest.mark.parametrize("size", [(128, 64), (64, 48), (72, 40)], ids=["whole", "odd", "odder"])
def test_equals_the_method_written_out(size, stacks):
    torch.manual_seed(0)
    net = Hourglass(stacks, channels=8, stem=4, maps=3).eval()
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 1.5)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        found, extras = net(image, extras=True)
        assert all(torch.equal(a, b) for a, b in zip(net(image), found, strict=True))
        expected, between = Written(net.state_dict(), 4).forward(image, stacks)
    assert len(extras.get("between_logits", ())) == len(between) == stacks - 1
    for mine, wanted in zip(extras.get("between_logits", ()), between, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)
    assert (net.strides, net.channels) == ((4, 8, 16, 32), (8,) * 4)
    assert [tuple(m.shape[-2:]) for m in found] == [
        tuple(-(-side // stride) for side in size) for stride in net.strides
    ]
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


def test_everything_is_trained_through_the_finest_map():
    net = Hourglass(2, channels=8, stem=4, maps=3)
    fine = net(torch.randn(2, 3, 64, 64))[0]
    (fine * torch.randn_like(fine)).sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stacks": 0}, "stacks must be 1 to 16 and depth 1 to 6, got 0 and 4"),
        ({"depth": 7}, "got 2 and 7"),
        ({"channels": 7}, r"1 to 2048, got \(7, 64, 17\)"),
        ({"maps": 5000}, r"got \(256, 64, 5000\)"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        Hourglass(**fields)


def test_heatmaps_between_hourglasses_are_trained_too():
    with initialize_config_dir(CONF, version_base="1.3"):
        terms = instantiate(compose("loss/hourglass").loss, _convert_="all")
    torch.manual_seed(0)
    codec = Heatmap((48, 64))
    net = PoseNet(Hourglass(3, channels=8, stem=4, maps=17), HeatmapHead, codec, COCO)
    image = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    target = codec.encode(torch.rand(2, 17, 2) * 40, torch.ones(2, 17))
    output = net(image)
    loss, _ = total(terms, {"logits": output.logits, "target": target, **output.extras}, gamma=1.0)
    wanted = sum(
        0.5 * (maps - target.maps).square().mean()
        for maps in (output.logits, *output.extras["between_logits"])
    )
    torch.testing.assert_close(loss, wanted)
    assert len(output.extras["between_logits"]) == 2
    assert not net.eval()(image).extras


@pytest.mark.slow
def test_compiles_without_graph_breaks():
    net = Hourglass(2, channels=8, stem=4, maps=3).eval()
    image = torch.randn(2, 3, 64, 48)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), net(image))
