import pytest
import torch

from kdpose.losses.refined_l1 import refined_l1

SIZE = (192, 256)


def case(batch, joints, dtype=torch.float32):
    generator = torch.manual_seed(0)
    poses = [torch.rand(batch, joints, 2, generator=generator, dtype=dtype) * 200 for _ in range(4)]
    mask = (torch.rand(batch, joints, generator=generator) > 0.4).to(dtype)
    return poses[:3], poses[3], mask


@pytest.mark.parametrize("block", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("joints", [14, 17])
def test_against_a_loop(batch, joints, block):
    refined, target, mask = case(batch, joints)
    errors = []
    for b in range(batch):
        for k in range(joints):
            for a, size in enumerate(SIZE):
                if mask[b, k]:
                    pose = 2 * refined[block][b, k, a].item() / size - 1
                    errors.append(abs(pose - (2 * target[b, k, a].item() / size - 1)))
    got = refined_l1(refined, target, mask, SIZE, block)
    assert got.shape == ()
    assert got.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert refined_l1(refined, target, mask.bool(), SIZE, block) == got


def test_by_hand():
    refined = [torch.tensor([[[96.0, 0.0], [7.0, 7.0]]])]
    target = torch.tensor([[[0.0, 64.0], [0.0, 0.0]]])
    # half the width is 1, a quarter of the height 0.5
    loss = refined_l1(refined, target, torch.tensor([[1.0, 0.0]]), SIZE, 0)
    assert loss.item() == 0.75


def test_gradcheck():
    refined, target, mask = case(3, 14, torch.float64)
    pose = refined[1].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: refined_l1([p], target, mask, SIZE, 0), (pose,))


@pytest.mark.parametrize("counts", [0.0, 1.0])
def test_degenerate_cases_have_a_zero_gradient(counts):
    pose = torch.full((1, 17, 2), 96.0, requires_grad=True)
    target = torch.full((1, 17, 2), 96.0 if counts else 0.0)  # equal, or nothing counts
    loss = refined_l1([pose], target, torch.full((1, 17), counts), SIZE, 0)
    loss.backward()
    assert loss == 0
    assert (pose.grad == 0).all()


def test_is_float32_for_bf16_poses():
    refined, target, mask = case(3, 17)
    loss = refined_l1([refined[0].bfloat16()], target, mask, SIZE, 0)
    assert loss.dtype == torch.float32
    want = refined_l1([refined[0].bfloat16().float()], target, mask, SIZE, 0)
    torch.testing.assert_close(loss, want)


@pytest.mark.parametrize("block", [-1, 3])
def test_no_such_block(block):
    refined, target, mask = case(1, 14)
    with pytest.raises(ValueError, match=f"block must be 0 to 2, got {block}"):
        refined_l1(refined, target, mask, SIZE, block)


def test_shapes_must_fit():
    refined, target, mask = case(1, 14)
    with pytest.raises(ValueError, match=r"\(1, 14, 2\), \(1, 13, 2\), \(1, 14\)"):
        refined_l1(refined, target[:, 1:], mask, SIZE, 0)


def test_shares_of_a_batch_average_to_it():
    refined, target, mask = case(4, 14)
    mask[0] = 1
    halves = [slice(0, 2), slice(2, 4)]
    assert mask[halves[0]].sum() != mask[halves[1]].sum()
    shares = [
        refined_l1([p[h] for p in refined], target[h], mask[h], SIZE, 2, count=mask.sum() / 2)
        for h in halves
    ]
    torch.testing.assert_close(sum(shares) / 2, refined_l1(refined, target, mask, SIZE, 2))
