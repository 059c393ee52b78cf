"""Regression of coordinates from the pooled feature, as RLE does (Li et al., ICCV 2021)."""

from torch import Tensor, nn

from kdpose.types import Coordinates


class RegressionHead(nn.Module):
    """Global average pooling and one linear layer to position and deviation of each joint.

    The score of a joint is 1 minus its mean deviation along x and y.

    Args:
        in_channels: C of the feature map.
        num_joints: K.
        feature_size: ``(w, h)`` of the feature map, cells; any.
        bins: not needed.
    """

    def __init__(
        self,
        in_channels: int,
        num_joints: int,
        feature_size: tuple[int, int],
        bins: tuple[int, int],
    ) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, 4 * num_joints)
        nn.init.xavier_uniform_(self.fc.weight, gain=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, feature: Tensor) -> Coordinates:
        """Regress the joints of a feature ``(B, C, h, w)``."""
        return regressed(self.fc(feature.mean(dim=(2, 3))).unflatten(1, (-1, 4)))


def regressed(values: Tensor) -> Coordinates:
    """Coordinates of four raw values ``(B, K, 4)`` a joint: x, y and the deviations' logits.

    The crop's centre is the origin of x and y, so that zeros are a start in the middle.
    """
    deviation = values[..., 2:].sigmoid()
    return Coordinates(values[..., :2] + 0.5, deviation, 1 - deviation.mean(-1))
