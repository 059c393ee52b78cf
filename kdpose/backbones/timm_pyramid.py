"""Any timm backbone with a feature pyramid, its levels merged top-down by an FPN."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


def weights_options(pretrained: bool, pretrained_file: str | None) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` for weights from timm, from a file or from nowhere.

    Raises:
        FileNotFoundError: the file is not there.
    """
    if pretrained_file is None:
        return {"pretrained": pretrained}
    if not Path(pretrained_file).is_file():
        raise FileNotFoundError(
            f"no backbone weights at {Path(pretrained_file).absolute()} "
            "(from backbone.pretrained_file)"
        )
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": pretrained_file}}


class TimmPyramid(nn.Module):
    """A timm classifier's maps at strides 4 to 32, merged by a feature pyramid network.

    A classifier's stride-4 map has seen little of the image; the FPN (Lin et al., CVPR 2017)
    carries the coarse levels' knowledge down to it.

    Args:
        name: a timm model that supports ``features_only``.
        neck_channels: C of every map.
        pretrained: take timm's weights.
        pretrained_file: take the weights from this file instead.
        model_args: further arguments of the timm model, for example a ResNet's ``channels``.

    Attributes:
        channels: C of the maps, fine to coarse.
        strides: of the maps.

    Raises:
        ValueError: the model has no stride-4 map.
    """

    def __init__(
        self,
        name: str,
        neck_channels: int = 64,
        pretrained: bool = False,
        pretrained_file: str | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = {**weights_options(pretrained, pretrained_file), **(model_args or {})}
        probe: Any = timm.create_model(name, features_only=True, **(model_args or {}))
        reductions = probe.feature_info.reduction()
        levels = [i for i, stride in enumerate(reductions) if stride >= 4]
        if reductions[levels[0]] != 4:
            raise ValueError(f"{name} has maps at strides {reductions}, and a pose head needs 4")
        body: Any = timm.create_model(
            name, features_only=True, out_indices=tuple(levels), **options
        )
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
