"""Plain vision transformers as ViTPose uses them (Xu et al., NeurIPS 2022), built by timm."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdpose.backbones.timm_pyramid import timm_model


class ViT(nn.Module):
    """A timm vision transformer whose patches, after the last norm, are a map of stride 16.

    The position embedding has the crop's own size; timm interpolates that of pretrained weights.
    ViTPose has no class token and pads the crop by 2 px before it cuts the patches; here the
    class token stays, because timm's weights have one, and the patches tile the crop.

    Args:
        name: timm's name, for example ``vit_small_patch16_224``.
        input_size: ``(W, H)`` of the crop, pixels.
        pretrained: take timm's weights, from its hub.
        model_args: further arguments of the timm model, for example ``drop_path_rate``.
        mean: of the pixels, RGB in [0, 1], that the weights were trained on; None is ImageNet's.
        std: their standard deviation.

    Attributes:
        mean: as given.
        std: as given.
        channels: C of the map.
        strides: its stride, the side of a patch.
        name: as given.
        options: what else timm built the body of.

    Raises:
        ValueError: patches do not tile the crop, or the weights cannot be had.
    """

    def __init__(
        self,
        name: str,
        input_size: tuple[int, int],
        pretrained: bool = False,
        model_args: Mapping[str, Any] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        width, height = self.input_size = (input_size[0], input_size[1])
        options = {**(model_args or {}), "img_size": (height, width), "num_classes": 0}
        self.name, self.options = name, options
        body = timm_model(name, pretrained, **options)
        patch = body.patch_embed.patch_size[0]
        if width % patch or height % patch:
            raise ValueError(
                f"{name} cuts patches of {patch} px, which do not tile {width}x{height} px: "
                "set codec.input_size"
            )
        self.body = body
        self.channels: tuple[int, ...] = (body.embed_dim,)
        self.strides: tuple[int, ...] = (patch,)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)`` to one map ``(B, C, H/16, W/16)``."""
        if tuple(image.shape[-2:]) != self.input_size[::-1]:
            height, width = image.shape[-2:]
            raise ValueError(
                f"the transformer was built for crops of {self.input_size} px (W, H), "
                f"got {(width, height)}: set backbone.input_size to codec.input_size"
            )
        maps = self.body.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)
        return tuple(maps)
