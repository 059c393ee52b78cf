"""HRNet as pose estimators use it (Sun et al., CVPR 2019), built from timm's modules."""

from typing import Any

from torch import Tensor, nn

from kdpose.backbones.timm_pyramid import timm_model


class _FinestFusion(nn.Module):
    """HRNet's last module with only its stride-4 output fused.

    A classifier fuses all four outputs.  A pose head reads the finest alone, so the other fusions
    would stay untrained (and would be unused parameters to DDP); the branches below them are
    trained through the finest fusion and serve as the coarser maps.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.branches: nn.ModuleList = module.branches
        self.fuse_layers = nn.ModuleList([module.fuse_layers[0]])
        self.fuse_act: nn.Module = module.fuse_act

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        (finest,) = self.fuse_layers
        fused = sum(fuse(x) for fuse, x in zip(finest.children(), maps, strict=True))
        return [self.fuse_act(fused), *maps[1:]]


class HRNet(nn.Module):
    """A timm HRNet that returns one map per branch.

    Args:
        name: timm's name, for example ``hrnet_w32``, ``hrnet_w48``, ``hrnet_w18_small``.
        pretrained: take timm's ImageNet weights, from its hub.

    Attributes:
        channels: C_i of the maps, fine to coarse.
        strides: 4, 8, 16, 32.
        name: as given.

    Raises:
        ValueError: the weights cannot be had.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        raw = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
        body = timm_model(name, pretrained, **raw)
        body.stage4[-1] = _FinestFusion(body.stage4[-1])
        self.name = name
        self.body = body
        self.channels: tuple[int, ...] = tuple(body.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(body.feature_info.reduction())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)``, sides divisible by 32, to four maps, fine to coarse."""
        height, width = image.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(
                f"an HRNet needs an input whose sides divide by 32, got {width}x{height}: "
                "set codec.input_size"
            )
        return tuple(self.body(image))
