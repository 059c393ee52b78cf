import numpy as np
import pytest
import torch

from kdpose.heads.attention import sine_positions
from kdpose.heads.distilpose import DistilPoseHead
from kdpose.heads.tokenpose import TokenEncoder, TokenPoseHead

SMALL = {"patch": (3, 4), "dim": 16, "depth": 2, "heads": 2}


def norm(values):
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def softmax(values):
    raised = np.exp(values - values.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def test_a_layer_in_numpy():
    torch.manual_seed(0)
    encoder = TokenEncoder(5, 3, (6, 8), dim=8, depth=1, heads=1, mlp_ratio=2).eval()
    tokens = torch.randn(1, 3 + 4, 8)
    layer = encoder.layers[0]
    weights = {n: p.detach().numpy() for n, p in layer.named_parameters()}
    places = np.concatenate([np.zeros((3, 8)), encoder.positions.numpy()])
    x = tokens[0].numpy() + places
    q, k, v = np.split(
        norm(x) @ weights["self_attn.in_proj_weight"].T + weights["self_attn.in_proj_bias"], 3, -1
    )
    seen = softmax(q @ k.T / np.sqrt(8)) @ v
    x = x + seen @ weights["self_attn.out_proj.weight"].T + weights["self_attn.out_proj.bias"]
    hidden = norm(x) @ weights["linear1.weight"].T + weights["linear1.bias"]
    erf = torch.erf(torch.from_numpy(hidden / np.sqrt(2))).numpy()
    x = x + 0.5 * hidden * (1 + erf) @ weights["linear2.weight"].T + weights["linear2.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(encoder(tokens)[0], x, atol=1e-4)


def test_positions_by_hand():
    places = sine_positions((3, 2), 8)
    assert places.shape == (6, 8)
    row, column = 2 * np.pi * 1 / 2, 2 * np.pi * 2 / 3  # of row 0, column 1
    wanted = [f(a / w) for a in (row, column) for w in (1, 100) for f in (np.sin, np.cos)]
    np.testing.assert_allclose(places[1], wanted, atol=1e-6)
    with pytest.raises(ValueError, match="dim must be a multiple of 4"):
        sine_positions((3, 2), 6)


def test_patches_are_cells_side_by_side():
    encoder = TokenEncoder(2, 3, (6, 8), dim=8, depth=1, heads=1)
    feature = torch.zeros(1, 2, 8, 6)
    feature[:, :, 4:, 3:] = torch.randn(1, 2, 4, 3)  # the last patch alone
    tokens = encoder.tokens(feature) - encoder.tokens(torch.zeros(1, 2, 8, 6))
    assert tokens.abs().sum(-1)[0].nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize("hidden", [None, 12])
def test_the_first_pass_is_what_inference_takes(hidden):
    torch.manual_seed(0)
    head = TokenPoseHead(5, 3, (6, 8), (6, 8), hidden=hidden, cycles=3, **SMALL).eval()
    feature = torch.randn(2, 5, 8, 6)
    with torch.no_grad():
        alone, (first, extras) = head(feature), head(feature, extras=True)
    assert alone.shape == (2, 3, 8, 6)
    torch.testing.assert_close(alone, first)
    assert [len(extras[f"pass_{n}"]) for n in ("logits", "joint_tokens", "patch_tokens")] == [3] * 3
    again = head.encoder(
        torch.cat([extras["pass_joint_tokens"][0], extras["pass_patch_tokens"][0]], 1)
    )
    torch.testing.assert_close(again[:, :3], extras["pass_joint_tokens"][1])


def test_tokenpose_s_has_its_papers_parameters():
    head = TokenPoseHead(256, 17, (48, 64), (48, 64))
    stem = 0.28e6  # two convolutions and four bottlenecks
    assert (sum(p.numel() for p in head.parameters()) + stem) / 1e6 == pytest.approx(6.6, abs=0.05)


def test_distilpose_regresses_from_its_tokens():
    torch.manual_seed(0)
    head = DistilPoseHead(5, 3, (6, 8), (6, 8), hidden=7, **SMALL).eval()
    feature = torch.randn(2, 5, 8, 6)
    with torch.no_grad():
        alone, (scores, extras) = head(feature), head(feature, extras=True)
        values = head.mlp(extras["joint_tokens"])
    for one, two in zip(alone, scores, strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(scores.joints, values[..., :2] + 0.5)
    torch.testing.assert_close(scores.score, values[..., 4].sigmoid())
    assert extras["patch_tokens"].shape == (2, 4, 16)


def test_errors():
    with pytest.raises(ValueError, match=r"patches of \(3, 4\) cells must tile .*: set head.patch"):
        TokenPoseHead(5, 3, (5, 8), (5, 8), **SMALL)
    with pytest.raises(ValueError, match=r"head.cycles must be 1 or more, got 0"):
        TokenPoseHead(5, 3, (6, 8), (6, 8), cycles=0, **SMALL)
