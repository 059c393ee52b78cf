"""The matching against a plain loop over the rules: ties, crowds, unlabelled persons."""

import numpy as np
import pytest

from kdpose.metrics.matching import ALL, MAX_DETECTIONS, MEDIUM, THRESHOLDS, match_persons
from kdpose.metrics.people import FoundPoses, LabelledPersons

K, SIGMAS = 5, (0.05, 0.06, 0.07, 0.08, 0.09)


def split(seed, images=12):
    rng = np.random.default_rng(seed)
    image = np.sort(rng.integers(0, images, 40)) * 3
    box = np.hstack([rng.uniform(0, 200, (40, 2)), rng.uniform(20, 160, (40, 2))])
    joints = box[:, None, :2] + rng.random((40, K, 2)) * box[:, None, 2:]
    visible = rng.integers(0, 3, (40, K)) * (rng.random((40, 1)) < 0.8)
    crowd = rng.random(40) < 0.1
    truth = LabelledPersons(
        image=image,
        joints=joints,
        visible=visible.astype(float),
        box=box,
        area=box[:, 2:].prod(axis=1) * 0.5,
        ignored=crowd | ~visible.any(axis=1) | (rng.random(40) < 0.1),
        crowd=crowd,
    )
    seen = rng.integers(0, 40, 200)
    off = rng.normal(0, 1, (200, K, 2)) * rng.choice([0, 1, 5, 40], (200, 1, 1))
    score = rng.choice([0.25, 0.5, 0.75], 200)  # many ties
    area = box[seen, 2:].prod(axis=1) * rng.uniform(0.2, 2, 200)
    # results of image 0 beyond the most that count
    owner = np.where(rng.random(200) < 0.2, 0, image[seen])
    return truth, FoundPoses(owner, joints[seen] + off, score, area), sorted(set(range(0, 36, 3)))


def plain_oks(joints, truth, g):
    variance = (2 * np.array(SIGMAS)) ** 2
    labelled = truth.visible[g] > 0
    apart = joints - truth.joints[g]
    if not labelled.any():
        x, y, w, h = truth.box[g]
        low, high = np.array([x - w, y - h]), np.array([x + 2 * w, y + 2 * h])
        apart = np.maximum(0, low - joints) + np.maximum(0, joints - high)
        labelled = np.ones(K, bool)
    e = (apart**2).sum(-1) / variance / (truth.area[g] + np.spacing(1)) / 2
    return np.exp(-e[labelled]).sum() / labelled.sum()


def plain_match(truth, found, image, area_range):
    """pycocotools' rules, one pose and one person at a time."""
    persons = np.flatnonzero(truth.image == image)
    poses = np.flatnonzero(found.image == image)
    poses = poses[np.argsort(-found.score[poses], kind="stable")][:MAX_DETECTIONS]
    low, high = area_range
    ignored = {g: truth.ignored[g] or not low <= truth.area[g] <= high for g in persons}
    persons = sorted(persons, key=lambda g: ignored[g])
    for t, threshold in enumerate(THRESHOLDS):
        taken = set()
        for d in poses:
            best, floor = None, min(threshold, 1 - 1e-10)
            for g in persons:
                if g in taken and not truth.crowd[g]:
                    continue
                if best is not None and not ignored[best] and ignored[g]:
                    break
                oks = plain_oks(found.joints[d], truth, g)
                if oks >= floor:
                    best, floor = g, oks
            if best is not None:
                taken.add(best)
            outside = not low <= found.area[d] <= high
            hit = best is not None and not ignored[best]
            yield t, found.score[d], hit, best is None and not outside


@pytest.mark.parametrize("area_range", [ALL, MEDIUM])
@pytest.mark.parametrize("seed", range(6))
def test_a_plain_loop_matches_alike(seed, area_range):
    truth, found, ids = split(seed)
    matches = match_persons(truth, found, ids, SIGMAS, (ALL, area_range))[1]
    rows = [row for image in ids for row in plain_match(truth, found, image, area_range)]
    for t in range(len(THRESHOLDS)):
        ours = sorted((r[1:] for r in rows if r[0] == t), key=lambda r: -r[0])
        assert matches.hit[t].tolist() == [hit for _, hit, _ in ours]
        assert matches.miss[t].tolist() == [miss for _, _, miss in ours]
    counted = ~truth.ignored & (truth.area >= area_range[0]) & (truth.area <= area_range[1])
    assert matches.persons.tolist() == [int(counted[truth.image == i].sum()) for i in ids]


def test_best_oks_is_the_mean_over_persons():
    truth, found, ids = split(1)
    matches = match_persons(truth, found, ids, SIGMAS)[0]
    for row, image in enumerate(ids):
        persons = np.flatnonzero((truth.image == image) & ~truth.ignored)
        poses = np.flatnonzero(found.image == image)
        poses = poses[np.argsort(-found.score[poses], kind="stable")][:MAX_DETECTIONS]
        best = [
            max((plain_oks(found.joints[d], truth, g) for d in poses), default=0) for g in persons
        ]
        expected = np.mean(best) if best else np.nan
        np.testing.assert_allclose(matches.best_oks[row], expected)


def test_no_images_and_no_poses():
    truth, found, ids = split(0)
    none = match_persons(truth, found, [], SIGMAS)[0]
    assert none.hit.shape == (10, 0)
    assert not none.persons.size
    empty = FoundPoses(*(np.zeros((0, *a.shape[1:]), a.dtype) for a in vars(found).values()))
    alone = match_persons(truth, empty, ids, SIGMAS)[0]
    assert alone.persons.sum() == (~truth.ignored).sum()
    assert np.nanmax(alone.best_oks) == 0
