"""What holds for all values, not for examples: codecs, crops, names of joints, readers, AP."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchmarks.eval import synthetic
from kdpose.codecs.heatmap import Heatmap
from kdpose.codecs.simcc import SimCC
from kdpose.data.annotations import load_persons
from kdpose.data.transforms import crop_matrix, inverse_affine, warp_joints
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.metrics.oks import person_oks
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.sides import joint_key, named_sides, side
from kdpose.types import SimCCLogits

SIZE = (48, 64)
settings.register_profile(
    "kdpose",
    deadline=None,
    derandomize=True,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("kdpose")


def places(low, high):
    return st.floats(low, high, allow_nan=False, width=32)


@given(
    x=places(0, SIZE[0] - 1),
    y=places(0, SIZE[1] - 1),
    ratio=st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    label=st.sampled_from(["smooth", "gaussian"]),
)
def test_simcc_decodes_what_it_encodes_within_half_a_bin(x, y, ratio, label):
    codec = SimCC(SIZE, split_ratio=ratio, label=label)
    target = codec.encode(torch.tensor([[[x, y]]]), torch.tensor([[2.0]]))
    found = codec.decode(SimCCLogits(target.x, target.y)).joints
    assert (found - torch.tensor([x, y])).abs().max() <= 0.5 / ratio + 1e-4


@given(x=places(0, SIZE[0] - 3), y=places(0, SIZE[1] - 3))
def test_heatmaps_decode_what_they_encode_within_half_a_cell(x, y):
    codec = Heatmap(SIZE)
    maps = codec.encode(torch.tensor([[[x, y]]]), torch.tensor([[2.0]]))[0]
    assert (codec.decode(maps).joints - torch.tensor([x, y])).abs().max() <= 2 + 1e-4


@given(seed=st.integers(0, 2**31), ratio=st.sampled_from([1.0, 2.0, 3.0]))
def test_logits_flipped_twice_are_themselves(seed, ratio):
    codec = SimCC(SIZE, split_ratio=ratio, label="gaussian")
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, len(COCO), count) for count in codec.bins]
    logits = SimCCLogits(*(torch.randn(shape, generator=generator) for shape in shapes))
    order = COCO.flip_order
    again = codec.unflip(codec.unflip(logits, order), order)
    last = int(ratio * (SIZE[0] - 1)) + 1  # bins beyond the last pixel repeat it
    torch.testing.assert_close(again.x[..., :last], logits.x[..., :last])
    torch.testing.assert_close(again.y, logits.y)


regions = st.tuples(places(-500, 500), places(-500, 500), places(1, 2000))


@given(region=regions, degrees=places(-180, 180), flip=st.booleans())
def test_a_crop_matrix_times_its_inverse_is_the_identity(region, degrees, flip):
    x, y, width = region
    matrix = crop_matrix(np.array([x, y]), np.array([width, width]), SIZE, degrees, flip)
    square = [np.vstack([m, [0, 0, 1]]) for m in (matrix, inverse_affine(matrix))]
    np.testing.assert_allclose(square[0] @ square[1], np.eye(3), atol=1e-6)


@given(region=regions, point=st.tuples(places(-500, 500), places(-500, 500)))
def test_a_mirrored_crop_mirrored_is_the_crop(region, point):
    x, y, width = region
    center, size = np.array([x, y]), np.array([width, width])
    joints = np.array([point], np.float64)
    plain, mirrored = (
        warp_joints(joints, crop_matrix(center, size, SIZE, flip=flip)) for flip in (False, True)
    )
    scale = max(1.0, float(np.abs(plain).max()))
    np.testing.assert_allclose(SIZE[0] - mirrored[:, 0], plain[:, 0], atol=1e-4 * scale)
    np.testing.assert_allclose(mirrored[:, 1], plain[:, 1], atol=1e-4 * scale)


@pytest.mark.parametrize("skeleton", [COCO, CROWDPOSE], ids=lambda s: s.name)
def test_joints_flipped_twice_are_themselves(skeleton):
    order = list(skeleton.flip_order)
    assert [order[k] for k in order] == list(range(len(order)))


PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
SPELLINGS = (
    lambda left, part: f"{left}_{part}",
    lambda left, part: f"{part}_{left}",
    lambda left, part: f"{left[0]}_{part}",
    lambda left, part: f"{part}-{left[0].upper()}",
    lambda left, part: f"{left.title()}{part.title()}",
    lambda left, part: f"{part}{left.title()}",
    lambda left, part: f"{left[0].upper()}{part.title()}",
    lambda left, part: f"{left}{part}",
    lambda left, part: f"{left[0]}{part}",
    lambda left, part: f"{left.upper()} {part.upper()}",
)


@given(
    spell=st.sampled_from(SPELLINGS),
    parts=st.lists(st.sampled_from(PARTS), min_size=1, unique=True),
    seed=st.integers(0, 100),
)
def test_sides_are_known_in_any_spelling_and_order(spell, parts, seed):
    assume("ear" not in parts or spell("left", "ear") != "lear")  # rear is no right ear
    joints = [(left, part) for part in parts for left in ("left", "right")] + [("", "nose")]
    random.Random(seed).shuffle(joints)
    names = [spell(left, part) if left else part for left, part in joints]
    expected = [f"{left}_{part}" if left else part for left, part in joints]
    assert [joint_key(name) for name in names] == expected
    assert [side(name) for name in names] == [left or None for left, _ in joints]
    pairs = {(joints.index(("left", p)), joints.index(("right", p))) for p in parts}
    assert set(named_sides(names).pairs) == pairs
    assert named_sides(names).single == ()


def labelled(skeleton=COCO):
    content, results = synthetic(np.random.default_rng(1), skeleton, 8, 30, 24, 60)
    for image in content["images"]:
        image |= {"file_name": f"{image['id']}.jpg", "width": 5000, "height": 5000}
    return content, results


def shuffled(content, rng):
    lists = ("images", "annotations")
    return content | {key: rng.sample(content[key], len(content[key])) for key in lists}


def written(folder, content):
    path = folder / f"{random.Random(json.dumps(content)).random()}.json"
    path.write_text(json.dumps(content))
    return path


def rows(persons):
    found = zip(persons.image_id, persons.box, persons.joints, persons.visible, strict=True)
    return sorted(tuple(np.concatenate([np.ravel(part) for part in row])) for row in found)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_a_shuffled_file_has_the_same_persons(tmp_path, seed):
    content, _ = labelled()
    mixed = shuffled(content, random.Random(seed))
    first, second = (rows(load_persons(written(tmp_path, c), COCO)) for c in (content, mixed))
    assert len(first) > 10
    assert first == second


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), protocol=st.sampled_from(["coco", "crowdpose"]))
def test_ap_does_not_depend_on_any_order(tmp_path, seed, protocol):
    skeleton = COCO if protocol == "coco" else CROWDPOSE
    content, results = labelled(skeleton)
    rng = random.Random(seed)
    options = {"protocol": protocol, "sigmas": skeleton.sigmas}
    plain = keypoint_ap(written(tmp_path, content), results, **options)
    mixed = rng.sample(results, len(results))
    again = keypoint_ap(written(tmp_path, shuffled(content, rng)), mixed, **options)
    assert 0 < plain["AP"] < 1
    assert again == pytest.approx(plain, abs=1e-12)


EMPTY = {"iscrowd": (None, 0), "num_keypoints": (None,), "segmentation": (None, [], {}, "")}


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_absent_null_and_empty_are_the_same(tmp_path, seed):
    content, results = labelled()
    rng = random.Random(seed)
    changed = json.loads(json.dumps(content))
    for person in changed["annotations"]:
        for key, values in EMPTY.items():
            if person.get("iscrowd") or rng.random() < 0.5:
                continue
            person.pop(key, None)
            if rng.random() < 0.7:
                person[key] = rng.choice(values)
    paths = [written(tmp_path, c) for c in (content, changed)]
    first, second = (rows(load_persons(path, COCO)) for path in paths)
    assert first == second
    options = {"protocol": "coco", "sigmas": COCO.sigmas}
    plain, again = (keypoint_ap(path, results, **options) for path in paths)
    assert plain == again


@given(seed=st.integers(0, 2**31), far=places(1.0, 3.0))
def test_oks_is_one_at_the_truth_and_falls_with_distance(seed, far):
    rng = np.random.default_rng(seed)
    truth, moved = rng.uniform(0, 200, (5, len(COCO), 2)), rng.normal(0, 5, (5, len(COCO), 2))
    visible = rng.integers(0, 3, (5, len(COCO)))
    visible[:, 0] = 2
    about = (truth, visible, rng.uniform(500, 50_000, 5), COCO.sigmas)
    at, near, away = (person_oks(truth + moved * s, *about) for s in (0.0, 1.0, far))
    np.testing.assert_allclose(at, 1)
    assert (at >= near).all()
    assert (near >= away).all()
    assert (away >= 0).all()
    hidden = truth + np.where(visible[..., None] > 0, 0, 1e4)  # joints without labels are free
    np.testing.assert_array_equal(person_oks(hidden, *about), at)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_perfect_results_have_an_ap_of_one_whatever_follows_them(tmp_path, seed):
    content, results = labelled()
    rng = random.Random(seed)
    people = [p for p in content["annotations"] if not p.get("iscrowd") and any(p["keypoints"])]
    keys = ("image_id", "category_id", "keypoints")
    perfect = [{k: p[k] for k in keys} | {"score": rng.uniform(5, 9)} for p in people]
    later = [r | {"score": rng.uniform(-9, -5)} for r in rng.sample(results, 5)]
    path = written(tmp_path, content)
    for found in (perfect, perfect + later):
        figures = keypoint_ap(path, found, protocol="coco", sigmas=COCO.sigmas)
        assert figures["AP"] == pytest.approx(1)
        assert figures["AR"] == pytest.approx(1)
