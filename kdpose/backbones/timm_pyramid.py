"""Any timm backbone with a feature pyramid, its levels merged top-down by an FPN."""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


def timm_model(name: str, pretrained: bool = False, **options: Any) -> Any:
    """``timm.create_model``; what keeps its hub's weights away in one line.

    Raises:
        ValueError: timm's weights cannot be had.
    """
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # timm, its hub's client and the network raise many kinds
        if not pretrained:
            raise
        reason = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"timm's weights of '{name}' could not be fetched ({type(error).__name__}: "
            f"{reason[0]}): without a network set backbone.pretrained=false and, if you have them "
            "as a file, backbone.pretrained_file=PATH"
        ) from None


class TimmPyramid(nn.Module):
    """A timm classifier's maps at strides 4 to 32, merged by a feature pyramid network.

    A classifier's stride-4 map has seen little of the image; the FPN (Lin et al., CVPR 2017)
    carries the coarse levels' knowledge down to it.

    Args:
        name: a timm model that supports ``features_only``.
        neck_channels: C of every map.
        pretrained: take timm's weights, from its hub.
        model_args: further arguments of the timm model, for example a ResNet's ``channels``.
        mean: of the pixels, RGB in [0, 1], that the weights were trained on; None is ImageNet's.
        std: their standard deviation.

    Attributes:
        mean: as given.
        std: as given.
        channels: C of the maps, fine to coarse.
        strides: of the maps.
        name: as given.
        options: what else timm built the body of.

    Raises:
        ValueError: the model has no stride-4 map, or the weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        neck_channels: int = 64,
        pretrained: bool = False,
        model_args: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        options = dict(model_args or {})
        probe = timm_model(name, features_only=True, **options)
        reductions = probe.feature_info.reduction()
        levels = [i for i, stride in enumerate(reductions) if stride >= 4]
        if reductions[levels[0]] != 4:
            raise ValueError(f"{name} has maps at strides {reductions}, and a pose head needs 4")
        options |= {"features_only": True, "out_indices": tuple(levels)}
        body = timm_model(name, pretrained, **options)
        self.name, self.options = name, options  # of ``timm.create_model``
        self.body = body
        self.neck = FeaturePyramidNetwork(
            body.feature_info.channels(), neck_channels, norm_layer=nn.BatchNorm2d
        )
        # A pose head reads the finest map alone: the other levels' output convolutions would stay
        # untrained (and unused to DDP), while what they read is trained through the finest.
        for level in range(1, len(levels)):
            self.neck.layer_blocks[level] = nn.Identity()
        self.strides: tuple[int, ...] = tuple(body.feature_info.reduction())
        self.channels: tuple[int, ...] = (neck_channels,) * len(self.strides)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)`` to one map ``(B, C, H/s, W/s)`` per stride, fine to coarse."""
        maps = {str(i): x for i, x in enumerate(self.body(image))}
        return tuple(self.neck(maps).values())
