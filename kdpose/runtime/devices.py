"""The device that computes."""

import torch


def pick_device(name: str | int) -> torch.device:
    """``auto`` is a GPU where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name} is refused: expected auto, cpu, cuda or cuda:N") from None
