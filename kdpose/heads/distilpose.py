"""DistilPose's student: joint tokens regress coordinates, deviations and scores (CVPR 2023)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from kdpose.heads.tokenpose import TokenEncoder
from kdpose.types import Coordinates


class DistilPoseHead(nn.Module):
    """Coordinates from joint tokens, whose tokens a heatmap network of tokens can teach.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells.
        bins: not needed.
        hidden: width between a joint's token and its values.
        patch: see :class:`TokenEncoder`, as the next four.
        dim: of a token.
        depth: layers.
        heads: of each layer's attention.
        mlp_ratio: hidden width of a layer's perceptron, in ``dim``.

    Raises:
        ValueError: see :class:`TokenEncoder`.
    """

    gives_extras = True

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
        hidden: int = 64,
        patch: Sequence[int] = (3, 4),
        dim: int = 192,
        depth: int = 12,
        heads: int = 8,
        mlp_ratio: float = 3,
    ) -> None:
        super().__init__()
        self.encoder = TokenEncoder(
            in_channels, num_joints, feature_size, patch, dim, depth, heads, mlp_ratio
        )
        self.num_joints = num_joints
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 5)
        )

    def forward(self, feature: Tensor, extras: bool = False) -> Any:
        """Regress the joints of a feature ``(B, C, h, w)``.

        With ``extras`` also a dict of ``joint_tokens`` and ``patch_tokens``.
        """
        tokens = self.encoder(self.encoder.tokens(feature))
        joints, patches = tokens[:, : self.num_joints], tokens[:, self.num_joints :]
        values = self.mlp(joints)
        deviation, score = values[..., 2:4].sigmoid(), values[..., 4].sigmoid()
        scores = Coordinates(values[..., :2] + 0.5, deviation, score)
        return (scores, {"joint_tokens": joints, "patch_tokens": patches}) if extras else scores
