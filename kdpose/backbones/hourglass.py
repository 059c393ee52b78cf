"""Stacked hourglasses (Newell et al., ECCV 2016)."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

_STRIDE = 4  # of the stem
_WIDEST = 2048  # channels: a checkpoint may ask for them


class _Residual(nn.Module):
    """A bottleneck with its norms before its layers; the inner ones have half the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.body = nn.Sequential(
            *_normed_conv(inputs, half, 1),
            *_normed_conv(half, half, 3),
            *_normed_conv(half, outputs, 1),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.body(x)
        return y


def _normed_conv(inputs: int, outputs: int, side: int) -> tuple[nn.Module, ...]:
    return (
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, side, padding=side // 2),
    )


class _OneHourglass(nn.Module):
    """Halves a map ``depth`` times and doubles it again, adding what each size had."""

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.beside = nn.ModuleList(_Residual(channels, channels) for _ in range(depth))
        self.down = nn.ModuleList(_Residual(channels, channels) for _ in range(depth))
        self.middle = _Residual(channels, channels)
        self.up = nn.ModuleList(_Residual(channels, channels) for _ in range(depth))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The sums, fine to coarse: the first has the size of ``x``."""
        kept: list[Tensor] = []
        sums: list[Tensor] = []
        for beside, down in zip(self.beside, self.down, strict=True):
            kept.append(beside(x))
            x = down(_halved(x))
        x = self.middle(x)
        for up in self.up:  # from the coarsest
            same = kept.pop()
            x = same + F.interpolate(up(x), same.shape[-2:])
            sums.insert(0, x)
        return sums


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, ceil_mode=True)


def _last_layers(channels: int) -> nn.Sequential:
    """What follows an hourglass, up to the map that heatmaps are made of."""
    conv = nn.Conv2d(channels, channels, 1)
    return nn.Sequential(_Residual(channels, channels), conv, nn.BatchNorm2d(channels), nn.ReLU())


class Hourglass(nn.Module):
    """A stem to stride 4 and one hourglass after the other, of which the last one's maps are used.

    The next hourglass reads what the one before read, plus its last map and K maps made of it, each
    through a 1x1 convolution. With loss=[hourglass] these K maps are trained as heatmaps too, as
    published.

    Args:
        stacks: number of hourglasses.
        channels: C of the maps; FPD's small network has 128.
        stem: channels of the first convolution, half of those at stride 2.
        depth: how often an hourglass halves its map.
        maps: number of the maps between two hourglasses, as published the number of joints.

    Attributes:
        channels: C of the maps, fine to coarse.
        strides: 4, 8, 16, 32 for depth 4.
        gives_extras: see :class:`kdpose.pose_net.PoseNet`.

    Raises:
        ValueError: a number is out of range.
    """

    gives_extras = True

    def __init__(
        self,
        stacks: int = 2,
        channels: int = 256,
        stem: int = 64,
        depth: int = 4,
        maps: int = 17,
    ) -> None:
        super().__init__()
        if not (1 <= stacks <= 16 and 1 <= depth <= 6):
            raise ValueError(f"stacks must be 1 to 16 and depth 1 to 6, got {stacks} and {depth}")
        widths = (channels, stem, maps)
        if channels % 2 or not all(1 <= width <= _WIDEST for width in widths):
            raise ValueError(
                f"channels, an even number, stem and maps must be 1 to {_WIDEST}, got {widths}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, stride=2, padding=3), nn.BatchNorm2d(stem), nn.ReLU()
        )
        self.widen = _Residual(stem, 2 * stem)
        self.enter = nn.Sequential(_Residual(2 * stem, 2 * stem), _Residual(2 * stem, channels))
        self.hourglasses = nn.ModuleList(_OneHourglass(depth, channels) for _ in range(stacks))
        self.after = nn.ModuleList(_last_layers(channels) for _ in range(stacks))
        between = range(stacks - 1)
        self.scores = nn.ModuleList(nn.Conv2d(channels, maps, 1) for _ in between)
        self.from_scores = nn.ModuleList(nn.Conv2d(maps, channels, 1) for _ in between)
        self.from_map = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in between)
        self.strides: tuple[int, ...] = tuple(_STRIDE * 2**level for level in range(depth))
        self.channels: tuple[int, ...] = (channels,) * depth

    def forward(self, image: Tensor, extras: bool = False) -> Any:
        """Map ``image (B, 3, H, W)`` to one map ``(B, C, H/s, W/s)`` per stride, fine to coarse.

        With ``extras`` also a dict of what lies between several hourglasses: ``between_logits``,
        K heatmaps after each of them but the last.
        """
        x = self.enter(_halved(self.widen(self.stem(image))))
        between: list[Tensor] = []
        for i, (scores, from_scores, from_map) in enumerate(
            zip(self.scores, self.from_scores, self.from_map, strict=True)
        ):
            fine = self.after[i](self.hourglasses[i](x)[0])
            between.append(scores(fine))
            x = x + from_map(fine) + from_scores(between[-1])
        sums = self.hourglasses[-1](x)
        maps = (self.after[-1](sums[0]), *sums[1:])
        if not extras:
            return maps
        return maps, {"between_logits": tuple(between)} if between else {}
