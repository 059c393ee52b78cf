import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdpose.data.synthetic import crowds as synthetic
from kdpose.data.synthetic.crowds import crowd_index, generate
from kdpose.skeletons.known import CROWDPOSE

SIZE = (160, 120)
SPLITS = ("crowdpose_trainval.json", "crowdpose_test.json")


def read(root, split):
    return json.loads((root / "annotations" / split).read_text())


def files(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "data"
    generate(path, train=50, val=10, seed=5, workers=1, image_size=SIZE)
    return path


@pytest.fixture(scope="module")
def splits(root):
    return [read(root, split) for split in SPLITS]


@pytest.fixture(scope="module")
def persons(splits):
    annotations = [a for split in splits for a in split["annotations"]]
    return annotations, np.array([a["keypoints"] for a in annotations]).reshape(-1, 14, 3)


def test_files_have_crowdposes_keys(root, splits):
    assert [len(split["images"]) for split in splits] == [50, 10]
    for split in splits:
        assert set(split) == {"images", "annotations", "categories"}
        assert split["categories"] == [json.loads(json.dumps(CROWDPOSE.to_category()))]
        for image in split["images"]:
            assert set(image) == {"file_name", "id", "height", "width", "crowdIndex"}
            assert image["file_name"] == f"{image['id']:06d}.jpg"
            with Image.open(root / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == SIZE
                assert picture.mode == "RGB"
        assert [a["id"] for a in split["annotations"]] == [
            n + 1 for n in range(len(split["annotations"]))
        ]
        for person in split["annotations"]:
            assert set(person) == {
                "id", "image_id", "category_id", "iscrowd", "bbox", "keypoints", "num_keypoints",
            }  # fmt: skip
            assert (person["category_id"], person["iscrowd"]) == (1, 0)
        assert {a["image_id"] for a in split["annotations"]} <= {i["id"] for i in split["images"]}
    assert not {i["id"] for i in splits[0]["images"]} & {i["id"] for i in splits[1]["images"]}
    assert len(list((root / "images").iterdir())) == 60


def test_joints_and_boxes_lie_inside_the_image(persons):
    annotations, joints = persons
    labelled = joints[..., 2] > 0
    assert set(np.unique(joints[..., 2])) == {0, 1, 2}
    assert (joints[~labelled] == 0).all()
    assert (joints[labelled][:, :2] <= np.array(SIZE) - 1).all()
    assert (joints[..., :2] >= 0).all()
    boxes = np.array([a["bbox"] for a in annotations])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= SIZE).all()
    for person, points, box in zip(annotations, joints, boxes, strict=True):
        assert person["num_keypoints"] == sum(1 for point in points[:12] if point[2] > 0)
        own = points[points[:, 2] > 0, :2]
        assert (own >= box[:2]).all()
        assert (own <= box[:2] + box[2:]).all()


def test_poses_look_like_bodies(persons):
    _, joints = persons
    whole = joints[(joints[..., 2] > 0).all(1)][..., :2]
    stature = np.ptp(whole, axis=1).max(1)
    assert len(whole) > 100
    assert 15 < stature.min() < stature.max() < 150
    for a, b in CROWDPOSE.limbs:
        length = np.linalg.norm(whole[:, a] - whole[:, b], axis=-1)
        assert (length < 0.33 * SIZE[1]).all()
        assert np.median(length) > 2
    upright = np.mean(whole[:, 12, 1] < whole[:, [10, 11], 1].max(1))
    assert 0.85 < upright < 1
    mirrored = np.mean(whole[:, 0, 0] < whole[:, 1, 0])  # left shoulder on the left: from the back
    assert 0.25 < mirrored < 0.65


def slow_crowd_index(persons):
    ratios = []
    for me in persons:
        x, y, w, h = me["bbox"]
        counts = {}
        for who in persons:
            k = who["keypoints"]
            counts[who["id"]] = sum(
                1
                for px, py, v in zip(k[0::3], k[1::3], k[2::3], strict=True)
                if v > 0 and x <= px <= x + w and y <= py <= y + h
            )
        own = counts.pop(me["id"])
        if own:
            ratios.append(sum(counts.values()) / own)
    return sum(ratios) / len(ratios) if ratios else 0.0


def test_crowd_index_of_the_files(splits):
    for split in splits:
        for image in split["images"]:
            own = [a for a in split["annotations"] if a["image_id"] == image["id"]]
            assert image["crowdIndex"] == pytest.approx(slow_crowd_index(own), abs=0.00501)


def test_crowding_spreads_over_all_classes(splits):
    index = np.array([image["crowdIndex"] for split in splits for image in split["images"]])
    shares = (index < 0.2).mean(), ((index >= 0.2) & (index < 0.8)).mean(), (index >= 0.8).mean()
    assert min(shares) >= 0.15


def test_crowd_index_by_hand():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]])
    joints = np.array([[[1, 1], [6, 6]], [[7, 7], [14, 1]], [[55, 55], [0, 0]]], float)
    labelled = np.array([[True, True], [True, True], [True, False]])
    # first box: 1 foreign of 2 own; second: 1 of 2; third: none of 1
    assert crowd_index(boxes, joints, labelled) == pytest.approx((0.5 + 0.5 + 0) / 3)
    labelled[2] = False  # a person without labels does not count
    assert crowd_index(boxes, joints, labelled) == pytest.approx(0.5)
    assert crowd_index(boxes, joints, np.zeros((3, 2), bool)) == 0
    assert crowd_index(np.zeros((0, 4)), np.zeros((0, 14, 2)), np.zeros((0, 14), bool)) == 0


def test_crowd_index_agrees_with_crowdposes_own_file():
    data = Path(os.environ.get("KDPOSE_REAL_DATA", "../shared/data"))
    path = data / "crowdpose" / "annotations" / "crowdpose_val.json"
    if not path.is_file():
        pytest.skip(f"CrowdPose's validation annotations are not at {path}")
    document = json.loads(path.read_text())
    persons = {image["id"]: [] for image in document["images"]}
    for person in document["annotations"]:
        if not person["iscrowd"]:
            persons[person["image_id"]].append(person)
    ours, theirs = [], []
    for image in document["images"]:
        mine = persons[image["id"]]
        joints = np.array([p["keypoints"] for p in mine], float).reshape(-1, 14, 3)
        boxes = np.array([p["bbox"] for p in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        ours.append(crowd_index(boxes, joints[..., :2], joints[..., 2] > 0))
        theirs.append(image["crowdIndex"])
    close = np.abs(np.array(ours) - theirs) < 0.011  # theirs are cut to two digits
    assert close.mean() > 0.75  # their boxes and labels changed after they had been counted
    assert np.corrcoef(ours, theirs)[0, 1] > 0.85


def test_hidden_joints_are_covered_and_visible_ones_are_not():
    hidden = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        figures = synthetic._place(rng, SIZE)
        _, owner, shape = synthetic._render(rng, figures, SIZE)
        for n, figure in enumerate(figures):
            nearer = shape[n + 1 :].any(0) | ((owner % 2 == 1) & (owner > 2 * n + 2))
            visible = synthetic._visibility(figure.joints, owner, 2 * n + 2)
            for (x, y), v in zip(figure.joints, visible, strict=True):
                inside = 0 <= x <= SIZE[0] - 1 and 0 <= y <= SIZE[1] - 1
                assert (v > 0) == inside
                if inside:
                    around = [
                        nearer[j, i]
                        for j in range(round(y) - 1, round(y) + 2)
                        for i in range(round(x) - 1, round(x) + 2)
                        if 0 <= j < SIZE[1] and 0 <= i < SIZE[0]
                    ]
                    assert (v == 1) == (np.mean(around) > 0.5)
                    hidden += v == 1
    assert hidden > 100


def test_a_person_fully_behind_another_is_left_out():
    joints = np.tile([[5.0, 5.0]], (14, 1))
    shape = np.zeros((10, 10), bool)
    shape[2:9, 3:8] = True
    figure = synthetic.Figure(joints, [])
    assert synthetic._annotate(figure, np.full((10, 10), 4, np.uint8), shape, 2) is None
    entry = synthetic._annotate(figure, np.where(shape, 2, 0).astype(np.uint8), shape, 2)
    assert entry["bbox"] == [3, 2, 5, 7]
    assert entry["keypoints"] == [5.0, 5.0, 2] * 14
    assert entry["num_keypoints"] == 12


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        generate(tmp_path / name, train=9, val=2, seed=seed, workers=workers, image_size=SIZE)
    first, second, other = (files(tmp_path / name) for name in "abc")
    assert len(first) == 13
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_run_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*_):
        assert list(tmp_path.iterdir())  # work goes on beside the root
        raise error

    monkeypatch.setattr(synthetic, "_write_annotations", fail)
    with pytest.raises(error):
        generate(tmp_path / "data", train=1, val=1, workers=1, image_size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_existing_root_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=f"{tmp_path} exists: remove it"):
        generate(tmp_path, train=1, val=1)
    assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"train": 0}, r"train, val and workers must be >= 1 .*got 0, 1, 2, 0"),
        ({"workers": 0}, r"workers must be >= 1 .*got 1, 1, 0, 0"),
        ({"seed": -1}, r"seed >= 0, got 1, 1, 2, -1"),
        ({"image_size": (320, 63)}, r"image_size must be at least \(64, 64\), got \(320, 63\)"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, wrong, match):
    with pytest.raises(ValueError, match=match):
        generate(tmp_path / "data", **{"train": 1, "val": 1, **wrong})
    assert not list(tmp_path.iterdir())
