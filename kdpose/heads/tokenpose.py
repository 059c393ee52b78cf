"""TokenPose: one token per joint attends to the image (Li et al., ICCV 2021); SDPose's cycles."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdpose.heads.attention import sine_positions


class TokenEncoder(nn.Module):
    """A transformer over patches of a feature map and one learned token per joint.

    The patches' positions are added again before each layer, as TokenPose does.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        patch: ``(w, h)`` of a patch, cells.
        dim: of a token.
        depth: layers.
        heads: of each layer's attention.
        mlp_ratio: hidden width of a layer's perceptron, in ``dim``.

    Raises:
        ValueError: the map does not divide into patches.
    """

    positions: Tensor

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        patch: Sequence[int] = (3, 4),
        dim: int = 192,
        depth: int = 12,
        heads: int = 8,
        mlp_ratio: float = 3,
    ) -> None:
        super().__init__()
        (width, height), (across, down) = feature_size, patch
        if width % across or height % down:
            raise ValueError(
                f"patches of {(across, down)} cells must tile the feature of {(width, height)}: "
                "set head.patch"
            )
        self.num_joints = num_joints
        self.project = nn.Conv2d(in_channels, dim, (down, across), stride=(down, across))
        self.joint_tokens = nn.Parameter(torch.zeros(1, num_joints, dim))
        nn.init.trunc_normal_(self.joint_tokens, std=0.02)
        positions = sine_positions((width // across, height // down), dim)
        self.register_buffer("positions", positions, persistent=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim,
                heads,
                int(dim * mlp_ratio),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )

    def tokens(self, feature: Tensor) -> Tensor:
        """Joint and patch tokens ``(B, K + N, dim)`` of a feature ``(B, C, h, w)``."""
        patches = self.project(feature).flatten(2).transpose(1, 2)
        return torch.cat([self.joint_tokens.expand(feature.shape[0], -1, -1), patches], dim=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pass tokens ``(B, K + N, dim)`` through all layers."""
        known = nn.functional.pad(self.positions, (0, 0, self.num_joints, 0))
        for layer in self.layers:
            tokens = layer(tokens + known)
        return tokens


class TokenPoseHead(nn.Module):
    """Heatmaps from joint tokens; with ``cycles`` above 1, SDPose's self-distillation.

    SDPose (Chen et al., CVPR 2024) passes the tokens through the same layers several times in
    training and lets the earlier passes learn from the later ones; inference takes one pass.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: ``(w, h)`` of the codec's maps.
        hidden: width between a joint's token and its map; None: one linear layer.
        cycles: passes in training.
        patch: see :class:`TokenEncoder`, as the next four.
        dim: of a token.
        depth: layers.
        heads: of each layer's attention.
        mlp_ratio: hidden width of a layer's perceptron, in ``dim``.

    Raises:
        ValueError: see :class:`TokenEncoder`; or there is no pass.
    """

    gives_extras = True

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        hidden: int | None = 384,
        cycles: int = 1,
        patch: Sequence[int] = (3, 4),
        dim: int = 192,
        depth: int = 12,
        heads: int = 8,
        mlp_ratio: float = 3,
    ) -> None:
        super().__init__()
        if cycles < 1:
            raise ValueError(f"head.cycles must be 1 or more, got {cycles}")
        self.encoder = TokenEncoder(
            in_channels, num_joints, feature_size, patch, dim, depth, heads, mlp_ratio
        )
        self.num_joints, self.cycles, self.bins = num_joints, cycles, (bins[0], bins[1])
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim),
            *(() if hidden is None else (nn.Linear(dim, hidden), nn.LayerNorm(hidden))),
            nn.Linear(hidden or dim, bins[0] * bins[1]),
        )

    def forward(self, feature: Tensor, extras: bool = False) -> Any:
        """Map a feature ``(B, C, h, w)`` to the first pass' heatmaps ``(B, K, h, w)``.

        With ``extras`` also a dict: ``pass_logits``, ``pass_joint_tokens`` and
        ``pass_patch_tokens``, a tuple of a tensor per pass; ``joint_tokens`` and ``patch_tokens``,
        the first pass' own.
        """
        if not extras:
            return self._maps(self.encoder(self.encoder.tokens(feature)))
        passes, tokens = [], self.encoder.tokens(feature)
        for _ in range(self.cycles):
            tokens = self.encoder(tokens)
            passes.append(tokens)
        joints = tuple(tokens[:, : self.num_joints] for tokens in passes)
        patches = tuple(tokens[:, self.num_joints :] for tokens in passes)
        maps = tuple(self._maps(tokens) for tokens in passes)
        return maps[0], {
            "pass_logits": maps,
            "pass_joint_tokens": joints,
            "pass_patch_tokens": patches,
            "joint_tokens": joints[0],
            "patch_tokens": patches[0],
        }

    def _maps(self, tokens: Tensor) -> Tensor:
        maps: Tensor = self.mlp(tokens[:, : self.num_joints])
        return maps.unflatten(-1, (self.bins[1], self.bins[0]))
