"""Any timm backbone with a feature pyramid, its levels merged top-down by an FPN."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from kdpose.checkpoints.foreign import looks_like
from kdpose.checkpoints.tensors import announce, check_share, fit, read_checkpoint, share, tensors

PRETRAINED = "backbone.pretrained_file"  # where a backbone's file is configured


def timm_model(name: str, pretrained: bool = False, **options: Any) -> Any:  # noqa: ANN401
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
            f"as a file, {PRETRAINED}=PATH"
        ) from None


class TimmPyramid(nn.Module):
    """A timm classifier's maps at strides 4 to 32, merged by a feature pyramid network.

    A classifier's stride-4 map has seen little of the image; the FPN (Lin et al., CVPR 2017)
    carries the coarse levels' knowledge down to it.

    Args:
        name: a timm model that supports ``features_only``.
        neck_channels: C of every map.
        pretrained: take timm's weights.
        pretrained_file: take the weights from this file instead: timm's own, one with the same
            names (torchvision's and mmpose's ResNets), or a pose checkpoint of kdpose, which
            fills the neck as well.
        model_args: further arguments of the timm model, for example a ResNet's ``channels``.

    Attributes:
        channels: C of the maps, fine to coarse.
        strides: of the maps.

    Raises:
        FileNotFoundError: ``pretrained_file`` is not there.
        ValueError: the model has no stride-4 map, or the weights cannot be had or do not fit.
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
        options = dict(model_args or {})
        probe = timm_model(name, features_only=True, **options)
        reductions = probe.feature_info.reduction()
        levels = [i for i, stride in enumerate(reductions) if stride >= 4]
        if reductions[levels[0]] != 4:
            raise ValueError(f"{name} has maps at strides {reductions}, and a pose head needs 4")
        options |= {"features_only": True, "out_indices": tuple(levels)}
        body = timm_model(name, pretrained and pretrained_file is None, **options)
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
        if pretrained_file is not None:
            self._load(pretrained_file, name, options)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``image (B, 3, H, W)`` to one map ``(B, C, H/s, W/s)`` per stride, fine to coarse."""
        maps = {str(i): x for i, x in enumerate(self.body(image))}
        return tuple(self.neck(maps).values())

    def _load(self, path: str, name: str, options: Mapping[str, Any]) -> None:
        """Fill body and neck from a pose checkpoint, or the body from a classifier."""
        where = f"{Path(path).absolute()} (from {PRETRAINED}, for {name})"
        content = tensors(read_checkpoint(path, PRETRAINED), where)
        weights = {n.removeprefix("backbone."): v for n, v in content.items()}
        if any(n.startswith("body.") for n in weights):
            fit(self, weights, "backbone of a kdpose checkpoint", PRETRAINED, where)
            return
        headless = {k: v for k, v in options.items() if k not in ("features_only", "out_indices")}
        with torch.device("meta"):
            classifier = timm_model(name, num_classes=0, **headless)
        count, missing = share(classifier, weights)
        what = looks_like(weights)
        check_share(count, missing, what, where)
        shapes = {n: v.shape for n, v in classifier.state_dict().items()}
        given = {n: v for n, v in weights.items() if shapes.get(n) == v.shape}
        # timm itself turns a classifier's names into those of its feature pyramid
        filled = timm_model(name, True, pretrained_cfg_overlay={"state_dict": given}, **options)
        self.body.load_state_dict(filled.state_dict())
        announce(PRETRAINED, what, count, missing)
