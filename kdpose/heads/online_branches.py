"""OKDHP: branches of one network teach each other through their ensemble (Li et al., ICCV 2021)."""

from typing import Any

import torch
from torch import Tensor, nn

from kdpose.heads.heatmap import STRIDE_4, check_same_size

_SQUEEZED = 64  # values between the pooled feature and the branches' weights


class _Residual(nn.Module):
    """A pre-activation bottleneck, as in the hourglasses of the reference."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        layers: list[nn.Module] = []
        for wide, narrow, kernel in ((channels, half, 1), (half, half, 3), (half, channels, 1)):
            conv = nn.Conv2d(wide, narrow, kernel, padding=kernel // 2)
            layers += [nn.BatchNorm2d(wide), nn.ReLU(), conv]
        self.layers = nn.Sequential(*layers)

    def forward(self, feature: Tensor) -> Tensor:
        moved: Tensor = self.layers(feature)
        return feature + moved


class _Aggregation(nn.Module):
    """The feature aggregation unit: a softmax over the branches for each joint."""

    def __init__(self, channels: int, num_joints: int, branches: int) -> None:
        super().__init__()
        self.fields = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for kernel in (3, 5, 7)
        )
        self.squeeze = nn.Linear(channels, _SQUEEZED)
        self.weights = nn.Linear(_SQUEEZED, branches * num_joints)
        self.branches = branches

    def forward(self, feature: Tensor, maps: Tensor) -> Tensor:
        """The ensemble ``(B, K, h, w)`` of ``maps (B, branches, K, h, w)``."""
        seen = torch.stack([field(feature) for field in self.fields]).sum(0).mean(dim=(2, 3))
        weights = self.weights(self.squeeze(seen)).unflatten(1, (self.branches, -1)).softmax(1)
        return (maps * weights[..., None, None]).sum(1)


class OnlineBranchesHead(nn.Module):
    """Branches on a shared feature, each with its maps; inference takes the first.

    In the paper a branch is a stack of hourglasses on a shared stem. Here a branch is ``blocks``
    residual blocks at the feature's own size, so that any backbone can be the stem.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(w, h)`` of the codec's maps.
        branches: their number.
        blocks: residual blocks of each branch.

    Raises:
        ValueError: the maps are not of the feature's size, or there is one branch alone.
    """

    gives_extras = True

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        branches: int = 3,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        check_same_size("branches give", feature_size, bins, STRIDE_4)
        if branches < 2:
            raise ValueError(f"head.branches must be 2 or more to teach each other, got {branches}")
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(_Residual(in_channels) for _ in range(blocks)),
                nn.Conv2d(in_channels, in_channels, 1),
                nn.BatchNorm2d(in_channels),
                nn.ReLU(),
                nn.Conv2d(in_channels, num_joints, 1),
            )
            for _ in range(branches)
        )
        self.aggregation = _Aggregation(in_channels, num_joints, branches)

    def forward(self, feature: Tensor, extras: bool = False) -> Any:
        """Map a feature ``(B, C, h, w)`` to the first branch's heatmaps ``(B, K, h, w)``.

        With ``extras`` also a dict: ``branch_logits`` of all branches and ``ensemble_logits``.
        """
        if not extras:
            return self.branches[0](feature)
        maps = torch.stack([branch(feature) for branch in self.branches], dim=1)
        ensemble = self.aggregation(feature, maps)
        return maps[:, 0], {"branch_logits": maps.unbind(1), "ensemble_logits": ensemble}
