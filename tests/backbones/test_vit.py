import pytest
import timm
import torch

from kdpose.backbones.vit import ViT

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3}
NAME = "vit_tiny_patch16_224"


@pytest.mark.parametrize("batch", [1, 3])
def test_the_patches_after_the_last_norm(batch):
    torch.manual_seed(0)
    net = ViT(NAME, (48, 64), model_args=TINY).eval()
    assert (net.channels, net.strides) == ((24,), (16,))
    image = torch.randn(batch, 3, 64, 48)
    with torch.no_grad():
        (found,) = net(image)
        tokens = net.body.forward_features(image)
    assert found.shape == (batch, 24, 4, 3)
    for row in range(4):
        for column in range(3):  # after the class token
            wanted = tokens[:, 1 + 3 * row + column]
            torch.testing.assert_close(found[:, :, row, column], wanted)


def test_everything_is_trained_and_blocks_are_dropped():
    net = ViT(NAME, (48, 64), model_args={**TINY, "drop_path_rate": 0.5})
    image = torch.randn(8, 3, 64, 48)
    (found,) = net(image)
    (found * torch.randn_like(found)).sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None]
    assert not torch.equal(net(image)[0], found)
    net.eval()
    assert torch.equal(net(image)[0], net(image)[0])


def test_the_position_embedding_has_the_crops_size():
    net = ViT(NAME, (48, 96), model_args=TINY)
    assert net.body.pos_embed.shape == (1, 1 + 3 * 6, 24)


@pytest.mark.parametrize(
    ("size", "message"),
    [((50, 64), r"cuts patches of 16 px, which do not tile 50x64 px: set codec\.input_size")],
)
def test_sizes_that_patches_do_not_tile(size, message):
    with pytest.raises(ValueError, match=message):
        ViT(NAME, size, model_args=TINY)


def test_another_crop():
    net = ViT(NAME, (48, 64), model_args=TINY)
    with pytest.raises(ValueError, match=r"built for crops of \(48, 64\) px.*got \(64, 64\)"):
        net(torch.zeros(1, 3, 64, 64))


def test_timm_knows_the_names_in_the_configuration():
    assert timm.is_model("vit_small_patch16_224")
    assert timm.is_model("vit_base_patch16_224.mae")
