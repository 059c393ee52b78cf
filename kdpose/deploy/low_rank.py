"""SimCC's two matrices in a checkpoint, each replaced by the product of two thin ones.

The matrices are most of a small student: 2.8 of the bundled one's 5.2 million parameters, and each
is read from memory once per person. What they have learned is near the sums over rows and columns
that they started from, whose rank is the map's side.
"""

from typing import Any

import torch
from torch import Tensor

from kdpose.checkpoints.load import KEY

_LAYERS = ("mlp_head_x", "mlp_head_y")


def with_low_rank(content: dict[str, Any], rank: int) -> dict[str, Any]:
    """The checkpoint with the nearest matrices of a rank, by their singular values.

    Args:
        content: of a file of kdpose.
        rank: at most that of the matrices.

    Raises:
        ValueError: the head is not SimCC's or has a rank already, or the rank is too high.
    """
    weights: dict[str, Tensor] = dict(content["state_dict"])
    described = content[KEY]["net"]
    student = described.get("student", described)
    for layer in _LAYERS:
        name = next((n for n in weights if n.endswith(f"head.{layer}.weight")), None)
        if name is None:
            raise ValueError(f"rank={rank} is for a SimCC head with whole matrices; there is none")
        matrix = weights.pop(name).double()
        if not 0 < rank <= min(matrix.shape):
            raise ValueError(f"rank must be 1 to {min(matrix.shape)}, got {rank}")
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        root = s[:rank].sqrt()
        stem = name.removesuffix("weight")
        weights[f"{stem}first.weight"] = (root[:, None] * v[:rank]).float()
        weights[f"{stem}last.weight"] = (u[:, :rank] * root).float()
        weights[f"{stem}last.bias"] = weights.pop(f"{stem}bias")
    head = {**student["head"], "rank": rank}
    net = {**student, "head": head}
    net = net if student is described else {**described, "student": net}
    return {**content, KEY: {**content[KEY], "net": net}, "state_dict": weights}
