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
        stages: 4; or fewer, for heads that go on where they end: 3 as in TransPose, 1 is the stem
            with its bottlenecks (of W32: four, 256 channels at stride 4).

    Attributes:
        channels: C_i of the maps, fine to coarse.
        strides: 4, 8, 16, 32, as many as there are stages.
        name: as given.

    Raises:
        ValueError: the weights cannot be had, or the stages are not 1 to 4.
    """

    def __init__(self, name: str, pretrained: bool = False, stages: int = 4) -> None:
        super().__init__()
        if stages not in (1, 2, 3, 4):
            raise ValueError(f"backbone.stages must be 1, 2, 3 or 4, got {stages}")
        raw = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
        body = timm_model(name, pretrained, **raw)
        for stage in range(stages + 1, 5):
            delattr(body, f"stage{stage}")
            delattr(body, f"transition{stage - 1}")
        channels = body.feature_info.channels()
        if stages == 1:
            channels = [body.layer1[-1].conv3.out_channels]
        else:
            last = getattr(body, f"stage{stages}")
            last[-1] = _FinestFusion(last[-1])
        self.name, self.stages = name, stages
        self.body = body
        self.channels: tuple[int, ...] = tuple(channels[:stages])
        self.strides: tuple[int, ...] = tuple(body.feature_info.reduction()[:stages])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)``, sides divisible by 32, to four maps, fine to coarse."""
        height, width = image.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(
                f"an HRNet needs an input whose sides divide by 32, got {width}x{height}: "
                "set codec.input_size"
            )
        return tuple(self.body(image) if self.stages == 4 else self._first_stages(image))

    def _first_stages(self, image: Tensor) -> list[Tensor]:
        """What timm's own ``forward`` does, up to the last stage that there is."""
        body = self.body
        stem = body.act1(body.bn1(body.conv1(image)))
        maps = [body.layer1(body.act2(body.bn2(body.conv2(stem))))]
        for stage in range(2, self.stages + 1):
            steps = enumerate(getattr(body, f"transition{stage - 1}"))
            maps = [
                maps[i] if isinstance(step, nn.Identity) else step(maps[-1]) for i, step in steps
            ]
            maps = getattr(body, f"stage{stage}")(maps)
        return maps
