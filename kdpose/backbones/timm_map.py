"""Any timm network's last map alone, for heads that enlarge it themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdpose.backbones.timm_pyramid import timm_model


class TimmMap(nn.Module):
    """A timm classifier's last map; a ResNet's has stride 32.

    Args:
        name: a timm model that supports ``features_only``.
        pretrained: take timm's weights, from its hub.
        model_args: further arguments of the timm model, for example a ResNet's ``channels``.
        mean: of the pixels, RGB in [0, 1], that the weights were trained on; None is ImageNet's.
        std: their standard deviation.

    Attributes:
        mean: as given.
        std: as given.
        channels: C of the map.
        strides: its stride.
        name: as given.
        options: what else timm built the body of.

    Raises:
        ValueError: the weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        model_args: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        options = {**(model_args or {}), "features_only": True, "out_indices": (-1,)}
        self.name, self.options = name, options
        self.body = timm_model(name, pretrained, **options)
        self.channels: tuple[int, ...] = tuple(self.body.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(self.body.feature_info.reduction())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)`` to one map ``(B, C, H/s, W/s)``."""
        return tuple(self.body(image))
