"""Learning rates by layer, against the numbers of ViTPose's schedule."""

from functools import partial

import pytest
import torch
from torch import nn

from kdpose.backbones.hourglass import Hourglass
from kdpose.backbones.vit import ViT
from kdpose.training.parameter_groups import parameter_groups

RATE, DECAY, BLOCKS = 1e-3, 0.75, 12
ADAMW = partial(torch.optim.AdamW, lr=RATE, weight_decay=0.1)


@pytest.fixture(scope="module")
def module():
    holder = nn.Module()
    holder.net = nn.Module()
    holder.net.backbone = ViT("vit_tiny_patch16_224", (32, 48))
    holder.net.head = nn.Linear(4, 2)
    return holder


def chosen(module, **options):
    """Rate and weight decay of each parameter by its name, as the optimizer takes them."""
    options = {"backbone_lr": 1.0, "layer_decay": None, **options}
    optimizer = ADAMW(parameter_groups(module, ADAMW, **options))
    names = {id(p): n for n, p in module.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_each_layer_learns_at_a_share_of_the_next(module):
    rates = chosen(module, layer_decay=DECAY)
    assert rates.keys() == dict(module.named_parameters()).keys()
    for name, (rate, _) in rates.items():
        body = name.removeprefix("net.backbone.body.")
        layer = BLOCKS + 1  # the head
        if body.startswith("norm."):
            layer = BLOCKS
        elif body.startswith("blocks."):
            layer = int(body.split(".")[1]) + 1
        elif body.startswith(("cls_token", "pos_embed", "patch_embed")):
            layer = 0
        assert rate == pytest.approx(RATE * DECAY ** (BLOCKS + 1 - layer)), name


def test_norms_biases_and_positions_are_not_decayed(module):
    parameters = dict(module.named_parameters())
    for name, (_, decay) in chosen(module, layer_decay=DECAY).items():
        free = parameters[name].ndim == 1 or name.endswith(("pos_embed", "cls_token"))
        assert decay == (0.0 if free and "backbone" in name else 0.1), name


def test_the_backbones_share_scales_all_its_layers(module):
    plain, scaled = (chosen(module, layer_decay=DECAY, backbone_lr=share) for share in (1.0, 0.5))
    for name, (rate, _) in scaled.items():
        assert rate == pytest.approx(plain[name][0] * (0.5 if "backbone" in name else 1))


def test_without_options_there_is_one_group(module):
    assert {*chosen(module).values()} == {(RATE, 0.1)}


@pytest.mark.parametrize("decay", [0.0, 1.5, -1.0])
def test_a_decay_outside_its_range_is_refused(module, decay):
    with pytest.raises(ValueError, match=r"module\.layer_decay must be in \(0, 1\]"):
        chosen(module, layer_decay=decay)


def test_a_backbone_without_numbered_layers_is_refused(module):
    holder = nn.Module()
    holder.net = nn.Module()
    holder.net.backbone = Hourglass(maps=2, channels=8, stem=8)
    with pytest.raises(ValueError, match=r"layer_decay=0\.75 needs a backbone .* not Hourglass"):
        chosen(holder, layer_decay=DECAY)
