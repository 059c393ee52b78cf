"""What limits a network: large matrices and maps, whose multiply-adds nothing does faster."""

from collections.abc import Callable

import torch
from torch.nn import functional as F


def product(dtype: torch.dtype, device: torch.device, flops: float) -> Callable[[], float]:
    """A run that tells how many units of ``flops`` operations its matrix products come to."""
    side, times = (8192, 20) if device.type == "cuda" else (1024, 4)
    matrix = torch.randn(side, side, device=device).to(dtype)
    return _counted(lambda: matrix @ matrix, times * 2 * side**3 / flops, times)


def convolution(device: torch.device, flops: float) -> Callable[[], float]:
    """The same of 3x3 convolutions in float32, which some libraries do faster than products."""
    count, channels, times = (256, 256, 20) if device.type == "cuda" else (8, 64, 4)
    maps = torch.randn(count, channels, 64, 48, device=device)
    weight = torch.randn(channels, channels, 3, 3, device=device)
    operations = times * 2 * maps.numel() * channels * 9
    return _counted(lambda: F.conv2d(maps, weight, padding=1), operations / flops, times)


def _counted(run: Callable[[], object], units: float, times: int) -> Callable[[], float]:
    def many() -> float:
        with torch.inference_mode():
            for _ in range(times):
                run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return units

    return many
