import numpy as np
import pytest
import torch

from kdpose.heads.online_branches import OnlineBranchesHead


def test_the_ensemble_is_a_weighted_mean_of_the_branches():
    torch.manual_seed(0)
    head = OnlineBranchesHead(6, 4, (3, 5), (3, 5), branches=3, blocks=1).eval()
    feature = torch.randn(2, 6, 5, 3)
    with torch.no_grad():
        maps, extras = head(feature, extras=True)
        torch.testing.assert_close(maps, head(feature))
        unit = head.aggregation
        seen = sum(field(feature) for field in unit.fields).mean((2, 3)).numpy()
    logits = seen @ unit.squeeze.weight.detach().numpy().T + unit.squeeze.bias.detach().numpy()
    logits = logits @ unit.weights.weight.detach().numpy().T + unit.weights.bias.detach().numpy()
    logits = logits.reshape(2, 3, 4)
    weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    branches = np.stack([m.numpy() for m in extras["branch_logits"]], 1)
    wanted = (branches * weights[..., None, None]).sum(1)
    np.testing.assert_allclose(extras["ensemble_logits"], wanted, atol=1e-5)


def test_branches_differ():
    head = OnlineBranchesHead(6, 4, (3, 5), (3, 5)).eval()
    with torch.no_grad():
        _, extras = head(torch.randn(1, 6, 5, 3), extras=True)
    first, second, third = extras["branch_logits"]
    assert (first - second).abs().max() > 1e-4
    assert (second - third).abs().max() > 1e-4


def test_errors():
    with pytest.raises(ValueError, match="take a backbone with a stride-4 map"):
        OnlineBranchesHead(6, 4, (3, 5), (6, 10))
    with pytest.raises(ValueError, match=r"head.branches must be 2 or more to teach each other"):
        OnlineBranchesHead(6, 4, (3, 5), (3, 5), branches=1)
