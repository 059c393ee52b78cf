import numpy as np
import pytest
import torch

from kdpose.heads.queries import QueryHead
from kdpose.heads.transpose import TransPoseHead


def norm(values):
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def test_in_numpy():
    torch.manual_seed(0)
    head = TransPoseHead(5, 3, (4, 3), (4, 3), dim=8, depth=2, heads=1, mlp=6).eval()
    feature = torch.randn(1, 5, 3, 4)
    weights = {n: p.detach().numpy() for n, p in head.named_parameters()}
    x = feature[0].numpy().reshape(5, 12).T @ weights["project.weight"][:, :, 0, 0].T
    for i in range(2):
        w = {n.split(".", 2)[2]: p for n, p in weights.items() if n.startswith(f"layers.{i}.")}
        wq, wk, wv = np.split(w["attention.in_proj_weight"], 3)
        placed = x + head.positions.numpy()
        logits = (placed @ wq.T) @ (placed @ wk.T).T / np.sqrt(8)  # all biases start at 0
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        x = norm(x + shares @ (x @ wv.T) @ w["attention.out_proj.weight"].T)
        hidden = np.maximum(x @ w["mlp.0.weight"].T + w["mlp.0.bias"], 0)
        x = norm(x + hidden @ w["mlp.2.weight"].T + w["mlp.2.bias"])
    maps = x @ weights["final_layer.weight"][:, :, 0, 0].T + weights["final_layer.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(head(feature)[0], maps.T.reshape(3, 3, 4), atol=1e-4)


def test_maps_of_another_size():
    with pytest.raises(ValueError, match="take a backbone with a stride-4 map"):
        TransPoseHead(5, 3, (4, 3), (8, 6))


def test_every_query_is_its_own_joint():
    torch.manual_seed(0)
    head = QueryHead(5, 3, (4, 3), (1, 1), dim=8, encoder_layers=1, decoder_layers=1, heads=2)
    feature = torch.randn(2, 5, 3, 4, requires_grad=True)
    head.eval()
    scores = head(feature)
    assert scores.joints.shape == scores.deviation.shape == (2, 3, 2)
    assert scores.score.shape == (2, 3)
    moved = torch.roll(head.queries.weight.data, 1, 0)
    head.queries.weight.data = moved
    torch.testing.assert_close(head(feature).joints, scores.joints.roll(1, 1))
    scores.joints.sum().backward()
    assert feature.grad.abs().sum((0, 1)).all()  # every cell is read
