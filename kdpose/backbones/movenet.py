"""MoveNet's feature extractor: MobileNetV2 and a light feature pyramid to stride 4."""

from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

_TAPS = (1, 2, 3)  # timm's blocks that end at strides 4, 8, 16 with 24, 32, 64 channels
_BODY = (24, 32, 64, 1280)


class _Smooth(nn.Sequential):
    """Depthwise 3x3, pointwise 1x1, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1),
            nn.ReLU(),
        )


class MoveNetPyramid(nn.Module):
    """MobileNetV2 at width 1 with MoveNet's top-down pyramid, a tenth of an FPN's arithmetic.

    The coarsest map (1280 channels, after the last convolution) is reduced and doubled level by
    level, a 1x1 convolution of the finer map is added, and a separable convolution smooths the sum.
    Layers and channels are those of MoveNet Lightning (Google, Apache-2.0), so that its weights
    fit; its batch norms in the pyramid are folded into the convolutions.

    Attributes:
        channels: C of the maps, fine to coarse.
        strides: of the maps.
    """

    channels: tuple[int, ...] = (24, 24, 32)
    strides: tuple[int, ...] = (4, 8, 16)

    def __init__(self) -> None:
        super().__init__()
        # padded as TensorFlow pads, which the weights were trained with
        body: Any = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=0)
        self.conv_stem, self.bn1, self.blocks = body.conv_stem, body.bn1, body.blocks
        self.conv_head, self.bn2 = body.conv_head, body.bn2
        self.top = nn.Conv2d(_BODY[-1], _BODY[2], 1)
        self.laterals = nn.ModuleList(
            nn.Conv2d(own, middle, 1) for own, middle in zip(_BODY[:3], _BODY[:3], strict=True)
        )
        self.smooth = nn.ModuleList(
            _Smooth(middle, out) for middle, out in zip(_BODY[:3], self.channels, strict=True)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)`` to maps ``(B, C, H/s, W/s)`` of strides 4, 8, 16."""
        x, maps = self.bn1(self.conv_stem(image)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _TAPS:
                maps.append(x)
        merged = self.top(self.bn2(self.conv_head(x)))
        levels: list[Tensor] = []
        for level in (2, 1, 0):
            merged = F.interpolate(merged, scale_factor=2.0, mode="bilinear", align_corners=False)
            merged = self.smooth[level](merged + self.laterals[level](maps[level]))
            levels.insert(0, merged)
        return tuple(levels)
