import timm
import torch

from kdpose.backbones.timm_map import TimmMap


def test_the_last_map_alone():
    torch.manual_seed(0)
    narrow = {"channels": [8, 16, 24, 32], "stem_width": 8}
    net = TimmMap("resnet10t", model_args=narrow).eval()
    assert (net.channels, net.strides) == ((32,), (32,))
    whole = timm.create_model("resnet10t", num_classes=0, **narrow).eval()
    whole.load_state_dict(net.body.state_dict())
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        (last,) = net(image)
        torch.testing.assert_close(last, whole.forward_features(image))
    assert last.shape == (2, 32, 2, 3)


def test_everything_is_trained():
    net = TimmMap("resnet10t")
    (last,) = net(torch.randn(2, 3, 64, 64))
    (last * torch.randn_like(last)).sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]
