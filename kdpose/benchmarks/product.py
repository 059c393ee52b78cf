"""What limits a network: a product of large matrices, whose multiply-adds nothing does faster."""

from collections.abc import Callable

import torch


def product(dtype: torch.dtype, device: torch.device, flops: float) -> Callable[[], float]:
    """A run that tells how many units of ``flops`` operations its matrix products come to."""
    side, times = (8192, 20) if device.type == "cuda" else (1024, 4)
    matrix = torch.randn(side, side, device=device).to(dtype)

    def run() -> float:
        for _ in range(times):
            matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        return times * 2 * side**3 / flops

    return run
