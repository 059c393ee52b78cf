import json
import math
import os
from pathlib import Path

import pytest
import torch

from kdpose.codecs.simcc import SimCC
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.types import SimCCLogits

SIZE = (192, 256)
SKELETONS = pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
BATCHES = pytest.mark.parametrize("batch", [1, 3])
LABELS = pytest.mark.parametrize("label", ["smooth", "gaussian"])


def test_fields():
    codec = SimCC([192, 256])
    assert codec.input_size == (192, 256)  # a tuple now: a list would differ
    assert codec.bins == (384, 512)
    assert SimCC((288, 384), 1.5).bins == (432, 576)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_size": (192,)}, "input_size must be two sizes"),
        ({"split_ratio": 0.0}, r"split_ratio must give 2 bins or more, got 0\.0"),
        ({"label": "one_hot"}, "label must be 'smooth' or 'gaussian', got 'one_hot'"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), got 1\.0"),
        ({"sigma": 0.0}, "sigma must be positive"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        SimCC(**{"input_size": SIZE, **fields})


def test_smooth_target_by_hand():
    target = SimCC(SIZE).encode(torch.tensor([[[10.3, 20.2]]]), torch.tensor([[2.0]]))
    assert (target.x.shape, target.y.shape) == ((1, 1, 384), (1, 1, 512))
    assert target.x[0, 0, 21] == pytest.approx(0.9)  # 20.6 rounds to 21
    assert target.y[0, 0, 40] == pytest.approx(0.9)  # 40.4 rounds to 40
    assert target.x[0, 0, 20] == pytest.approx(0.1 / 383)
    assert target.y[0, 0, 0] == pytest.approx(0.1 / 511)
    assert (target.x.sum() + target.y.sum()).item() == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize(
    ("joint", "weight"),
    [
        ((-0.2, 5.0), 1.0),  # bin -0.4 rounds to 0
        ((-0.3, 5.0), 0.0),  # bin -0.6 rounds to -1
        ((191.7, 5.0), 1.0),  # bin 383.4
        ((191.8, 5.0), 0.0),  # bin 383.6 rounds to 384
        ((5.0, 255.8), 0.0),
        ((5.0, -1.0), 0.0),
    ],
)
def test_smooth_weight_at_the_border(joint, weight):
    target = SimCC(SIZE).encode(torch.tensor([[joint]]), torch.ones(1, 1))
    assert target.weight.item() == weight
    assert target.x.max() == pytest.approx(0.9)  # the class is clamped, the target stays one


@pytest.mark.parametrize(
    ("joint", "weight"),
    [
        ((-11.9, 5.0), 1.0),  # 3 sigma = 12, counted in pixels
        ((-12.1, 5.0), 0.0),
        ((203.9, 5.0), 1.0),
        ((204.1, 5.0), 0.0),
        ((5.0, 268.1), 0.0),
    ],
)
def test_gaussian_weight_at_the_border(joint, weight):
    target = SimCC(SIZE, label="gaussian").encode(torch.tensor([[joint]]), torch.ones(1, 1))
    assert target.weight.item() == weight
    assert (target.y.sum() > 0).item() == (weight > 0)


@LABELS
def test_weight_is_one_for_hidden_and_visible_joints(label):
    joints = torch.full((1, 3, 2), 50.0)
    target = SimCC(SIZE, label=label).encode(joints, torch.tensor([[0.0, 1.0, 2.0]]))
    assert target.weight.tolist() == [[0.0, 1.0, 1.0]]


@BATCHES
@SKELETONS
def test_gaussian_target_against_a_loop(batch, skeleton, random_joints):
    codec = SimCC((24, 32), 2.0, "gaussian", sigma=3.0)
    joints = random_joints(batch, len(skeleton), (40, 40), margin=-12)
    target = codec.encode(joints, torch.ones(batch, len(skeleton)))
    assert target.weight.min() == 0  # the case below is met
    for b in range(batch):
        for k in range(len(skeleton)):
            x, y = joints[b, k].tolist()
            counts = x + 9 >= 0 and x - 9 < 24 and y + 9 >= 0 and y - 9 < 32
            assert target.weight[b, k] == counts
            for place, axis in ((x, target.x), (y, target.y)):
                for i in range(axis.shape[-1]):
                    density = math.exp(-((i - 2 * place) ** 2) / 18) / (3 * math.sqrt(2 * math.pi))
                    assert axis[b, k, i].item() == pytest.approx(density * counts, abs=1e-6)


def test_encode_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match=r"got \(1, 17, 2\) and \(1, 17, 1\)"):
        SimCC(SIZE).encode(torch.zeros(1, 17, 2), torch.ones(1, 17, 1))


@LABELS
@BATCHES
@SKELETONS
@pytest.mark.parametrize("split_ratio", [1.0, 1.5, 2.0, 3.0])
def test_decode_inverts_encode_within_half_a_bin(
    label, batch, skeleton, split_ratio, random_joints, log_target
):
    codec = SimCC(SIZE, split_ratio, label)
    joints = random_joints(batch, len(skeleton))
    pose = codec.decode(log_target(codec, joints))
    assert pose.joints.shape == (batch, len(skeleton), 2)
    assert pose.scores.shape == (batch, len(skeleton))
    assert (pose.joints - joints).abs().max() <= 0.5 / split_ratio + 1e-4


@pytest.mark.parametrize(("label", "score"), [("smooth", 0.75), ("gaussian", 0.6)])
def test_decode_by_hand(label, score):
    codec = SimCC((2, 2), 2.0, label)
    x = torch.tensor([0.75, 0.15, 0.05, 0.05]).log()
    y = torch.tensor([0.1, 0.1, 0.2, 0.6]).log()
    pose = codec.decode(SimCCLogits(x[None, None] + 5, y[None, None] - 3))
    assert pose.joints.tolist() == [[[0.0, 1.5]]]
    assert pose.scores.item() == pytest.approx(score)


def test_decode_is_float32_under_autocast():
    codec = SimCC(SIZE, label="gaussian")
    logits = SimCCLogits(torch.zeros(1, 14, 384).bfloat16(), torch.zeros(1, 14, 512).bfloat16())
    logits.x[..., 301] = 20.0
    with torch.autocast("cpu", torch.bfloat16):
        pose = codec.decode(logits)
    assert pose.joints.dtype == pose.scores.dtype == torch.float32
    assert (pose.joints[..., 0] == 150.5).all()
    assert pose.scores[0, 0].item() == pytest.approx(1 / 512)


@BATCHES
@SKELETONS
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_expectation_against_a_loop(batch, skeleton, temperature, random_logits):
    codec = SimCC((12, 16), 1.5)
    logits = random_logits(batch, len(skeleton), codec)
    got = codec.expectation(logits, temperature)
    assert got.shape == (batch, len(skeleton), 2)
    for b in range(batch):
        for k in range(len(skeleton)):
            for a, axis in enumerate(logits):
                power = [math.exp(temperature * z) for z in axis[b, k].tolist()]
                mean = sum(i * p for i, p in enumerate(power)) / sum(power)
                assert got[b, k, a].item() == pytest.approx(mean / 1.5, abs=1e-4)


def test_expectation_of_smoothed_labels_is_drawn_to_the_centre(log_target):
    codec = SimCC(SIZE)
    joints = torch.tensor([[[10.0, 100.0], [48.0, 100.0]]])
    error = codec.expectation(log_target(codec, joints))[..., 0] - joints[..., 0]
    assert error[0].tolist() == pytest.approx([8.6, 4.8], abs=0.05)


def test_expectation_of_a_gaussian_is_its_mean_and_biased_at_the_border(log_target):
    codec = SimCC(SIZE, label="gaussian")
    joints = torch.tensor([[[0.0, 100.37], [3.0, 41.9]]])
    error = codec.expectation(log_target(codec, joints)) - joints
    assert error[..., 0].flatten().tolist() == pytest.approx([1.44, 0.22], abs=0.01)
    assert error[..., 1].abs().max() < 1e-4


def test_expectation_keeps_sub_bins_under_autocast(log_target):
    codec = SimCC(SIZE, label="gaussian")
    logits = log_target(codec, torch.tensor([[[150.185, 100.0]]]))
    logits = SimCCLogits(logits.x.float(), logits.y.float())
    with torch.autocast("cpu", torch.bfloat16):
        pose = codec.expectation(logits)
        assert codec.expectation(SimCCLogits(*(z.bfloat16() for z in logits))).dtype == pose.dtype
    assert pose.dtype == torch.float32
    assert pose[0, 0, 0].item() == pytest.approx(150.185, abs=1e-3)


@BATCHES
def test_expectation_gradcheck(batch, random_logits):
    codec = SimCC((3, 4))
    x, y = random_logits(batch, 14, codec, torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, y: codec.expectation(SimCCLogits(x, y), 1.5),
        (x.requires_grad_(), y.requires_grad_()),
    )


@LABELS
def test_real_joints_survive_the_round_trip(label, log_target):
    root = Path(os.environ.get("KDPOSE_REAL_DATA", "../shared/data"))
    path = root / "coco_mini/annotations/person_keypoints_val2017.json"
    if not path.is_file():
        pytest.skip(f"no COCO annotations at {path}; set KDPOSE_REAL_DATA")
    persons = [a for a in json.loads(path.read_text())["annotations"] if a["num_keypoints"]]
    points = torch.tensor([p["keypoints"] for p in persons]).float().view(-1, 17, 3)
    box = torch.tensor([p["bbox"] for p in persons])
    center = box[:, None, :2] + box[:, None, 2:] / 2
    scale = 192 / torch.maximum(box[:, 2], box[:, 3] * 0.75) / 1.25
    joints = (points[..., :2] - center) * scale[:, None, None] + torch.tensor([96.0, 128.0])
    codec = SimCC(SIZE, label=label)
    target = codec.encode(joints, points[..., 2])
    labelled = points[..., 2] > 0
    inside = ((joints >= 0) & (joints < torch.tensor([192.0, 256.0]))).all(-1)
    assert torch.equal(target.weight > 0, labelled & inside)  # none lies in the border's doubt
    assert (labelled & ~inside).sum() == 5  # of 652, although the boxes are padded by 1.25
    error = (codec.decode(log_target(codec, joints)).joints - joints).abs()
    assert error[target.weight > 0].max() <= 0.25 + 1e-4


def test_without_smoothing_a_label_is_one_class(random_joints):
    codec = SimCC((48, 64), smoothing=0.0)  # codec=simcc_onehot
    joints = random_joints(2, 17, (48, 64))
    target = codec.encode(joints, torch.ones(2, 17))
    logits = SimCCLogits(torch.randn(2, 17, 96), torch.randn(2, 17, 128))
    classes = (2 * joints).round().long()
    for axis, bins in enumerate((target.x, target.y)):
        assert torch.equal(bins, torch.eye(bins.shape[-1])[classes[..., axis]])
    entropies = [
        torch.nn.functional.cross_entropy(s.flatten(0, 1), classes[..., a].flatten())
        for a, s in enumerate(logits)
    ]
    torch.testing.assert_close(simcc_kl(logits, target), 17 * sum(entropies))
