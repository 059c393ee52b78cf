import numpy as np
import torch

from kdpose.heads.regression import RegressionHead, regressed


def test_pooling_and_one_layer():
    torch.manual_seed(0)
    head = RegressionHead(6, 3, (4, 5), (1, 1))
    torch.nn.init.normal_(head.fc.weight)
    feature = torch.randn(2, 6, 5, 4)
    values = feature.numpy().mean((2, 3)) @ head.fc.weight.detach().numpy().T
    values = values.reshape(2, 3, 4)
    scores = head(feature)
    np.testing.assert_allclose(scores.joints.detach(), values[..., :2] + 0.5, atol=1e-5)
    deviation = 1 / (1 + np.exp(-values[..., 2:]))
    np.testing.assert_allclose(scores.deviation.detach(), deviation, atol=1e-5)
    np.testing.assert_allclose(scores.score.detach(), 1 - deviation.mean(-1), atol=1e-5)


def test_zeros_are_the_middle():
    scores = regressed(torch.zeros(1, 2, 4))
    assert scores.joints.unique().tolist() == [0.5]
    assert scores.score.unique().tolist() == [0.5]
