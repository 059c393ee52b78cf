"""Parameters in groups by their learning rates."""

from collections.abc import Callable
from typing import Any

from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]  # no __all__
from torch import nn

_BACKBONE = "net.backbone."


def parameter_groups(
    module: nn.Module, optimizer: Callable[..., Any], backbone_lr: float, layer_decay: float | None
) -> Any:
    """What is trained, for an optimizer; the backbone apart where it has rates of its own.

    Args:
        module: holds the network as ``net``; parameters without gradients are left out.
        optimizer: a partial with ``lr``, and ``weight_decay`` or not.
        backbone_lr: the backbone's learning rate as a share of the other parameters'.
        layer_decay: each backbone layer's learning rate as a share of the next layer's; the head
            comes after the last. None: equal rates (ViTPose, Xu et al., NeurIPS 2022, after BEiT).
            With it, the backbone's biases, norms and position embeddings have no weight decay,
            and its last norm counts with its last block, as in timm.

    Raises:
        ValueError: ``layer_decay`` is not in (0, 1], or timm does not know the backbone's layers.
    """
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ValueError(f"module.layer_decay must be in (0, 1], got {layer_decay}")
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if backbone_lr == 1 and layer_decay is None:
        return list(trained.values())
    given: Any = optimizer  # a partial, as Hydra makes it
    rate = backbone_lr * given.keywords["lr"]
    rest = [p for n, p in trained.items() if not n.startswith(_BACKBONE)]
    if layer_decay is None:
        body = [p for n, p in trained.items() if n.startswith(_BACKBONE)]
        return [{"params": rest}, {"params": body, "lr": rate}]
    layers = _by_layer(module.get_submodule("net.backbone"), given, layer_decay)
    for group in layers:
        group["lr"] = rate * layer_decay * group.pop("lr_scale")
    return [{"params": rest}, *layers]


def _by_layer(backbone: nn.Module, optimizer: Any, decay: float) -> list[dict[str, Any]]:
    """Timm's groups of one layer each, in weight decayed or not."""
    body = getattr(backbone, "body", None)
    if not hasattr(body, "group_matcher"):
        raise ValueError(
            f"module.layer_decay={decay} needs a backbone whose layers timm numbers, such as "
            f"vit_small and vit_base, not {type(backbone).__name__}: module.layer_decay=null"
        )
    assert isinstance(body, nn.Module)
    exempt: Any = getattr(body, "no_weight_decay", set)
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        body,
        weight_decay=optimizer.keywords.get("weight_decay", 0.0),
        no_weight_decay_list=exempt(),
        layer_decay=decay,
    )
    return groups
