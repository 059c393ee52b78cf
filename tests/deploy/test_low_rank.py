import copy

import pytest
import torch

from kdpose.checkpoints.load import KEY, load_net
from kdpose.deploy.low_rank import with_low_rank


@pytest.fixture
def content(tiny_checkpoints):
    return torch.load(tiny_checkpoints["student"], weights_only=True)


def matrix(content, axis):
    return next(v for n, v in content["state_dict"].items() if n.endswith(f"head_{axis}.weight"))


def test_full_rank_is_the_same_network(content, tmp_path):
    before = copy.deepcopy(content)
    full = min(*matrix(content, "x").shape, *matrix(content, "y").shape)
    torch.save(with_low_rank(content, full), tmp_path / "thin.ckpt")
    torch.save(content, tmp_path / "whole.ckpt")
    assert content[KEY] == before[KEY]  # the given content stays
    crops = torch.randint(0, 256, (2, 3, 64, 48)).byte()
    whole, thin = (load_net(tmp_path / f"{name}.ckpt").net.eval() for name in ("whole", "thin"))
    assert thin.head.mlp_head_x.first.out_features == full
    with torch.no_grad():
        expected, found = whole(crops).logits.x, thin(crops).logits.x
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_it_is_the_nearest_matrix_of_its_rank(content):
    original = matrix(content, "x").float()
    thin = with_low_rank(content, 5)["state_dict"]
    first, last = (
        next(v for n, v in thin.items() if n.endswith(f"x.{k}.weight")) for k in ("first", "last")
    )
    left = torch.linalg.svdvals(original)[5:].square().sum().sqrt()
    torch.testing.assert_close((last @ first - original).norm(), left, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_is_refused(content):
    with pytest.raises(ValueError, match=r"rank must be 1 to \d+, got 9999"):
        with_low_rank(content, 9999)
    with pytest.raises(ValueError, match="there is none"):
        with_low_rank(with_low_rank(content, 4), 4)
