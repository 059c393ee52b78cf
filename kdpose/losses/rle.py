"""Residual log-likelihood estimation: a flow learns how regressed joints err (Li et al., 2021)."""

import math

import torch
from torch import Tensor, nn

from kdpose.types import Coordinates, CoordinateTarget


def _net(hidden: int, *last: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, 2),
        *last,
    )


class RealNVP(nn.Module):
    """Affine couplings from errors in the plane to a standard normal (Dinh et al., ICLR 2017).

    Args:
        couplings: their number; each keeps one coordinate and moves the other.
        hidden: width of their networks.
    """

    keep: Tensor

    def __init__(self, couplings: int = 6, hidden: int = 64) -> None:
        super().__init__()
        keep = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(-(-couplings // 2), 1)[:couplings]
        self.register_buffer("keep", keep, persistent=False)
        self.scale = nn.ModuleList(_net(hidden, nn.Tanh()) for _ in range(couplings))
        self.shift = nn.ModuleList(_net(hidden) for _ in range(couplings))

    def log_prob(self, error: Tensor) -> Tensor:
        """The log-density ``(...)`` of errors ``(..., 2)``."""
        z, log_det = error, error.new_zeros(error.shape[:-1])
        layers = zip(self.keep, self.scale, self.shift, strict=True)
        for keep, scale, shift in reversed(list(layers)):
            kept, moved = keep * z, 1 - keep
            log_scale = scale(kept) * moved
            z = kept + moved * (z - shift(kept)) * (-log_scale).exp()
            log_det = log_det - log_scale.sum(-1)
        return log_det - 0.5 * z.square().sum(-1) - math.log(2 * math.pi)


class ResidualLogLikelihood(nn.Module):
    """-log of the density of the error, a Laplace density times what the flow learned.

    With the error e = (target - joints) / deviation of a joint, the loss is
    ``2 log(deviation) - log flow(e)`` summed over x and y as the reference does (the flow's scalar
    counts for both), plus the Laplace density's ``log(2 deviation) + |e| / sqrt 2``. The flow is
    trained along and dropped.

    Args:
        couplings: of the flow.
        hidden: width of the flow's networks.
    """

    def __init__(self, couplings: int = 6, hidden: int = 64) -> None:
        super().__init__()
        self.flow = RealNVP(couplings, hidden)

    def forward(self, logits: Coordinates, target: CoordinateTarget) -> Tensor:
        """Sum over joints, x and y, mean over the batch.

        Args:
            logits: the network's coordinates.
            target: coordinates and joint weights ``(B, K)``.

        Returns:
            Scalar, nats.

        Raises:
            ValueError: the shapes differ.
        """
        check_shapes(logits, target)
        deviation = logits.deviation.clamp(min=1e-6)
        error = (target.joints - logits.joints) / deviation
        laplace = (2 * deviation).log() + error.abs() / math.sqrt(2)
        learned = deviation.log() - self.flow.log_prob(error)[..., None]
        return ((laplace + learned) * target.weight[..., None]).sum((1, 2)).mean()


def check_shapes(logits: Coordinates, target: CoordinateTarget) -> None:
    """Check that a network's coordinates and their target are of the same joints.

    Raises:
        ValueError: they are no coordinates, or the shapes differ.
    """
    if not isinstance(logits, Coordinates):
        raise ValueError(
            "this loss compares coordinates, and this network gives other scores: take the loss of "
            "its head, for example 'loss=[simcc_kl]', or codec=regression head=regression"
        )
    if logits.joints.shape != target.joints.shape:
        raise ValueError(
            "coordinates and target must share a shape, "
            f"got {tuple(logits.joints.shape)} and {tuple(target.joints.shape)}"
        )
