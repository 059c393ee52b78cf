"""A checkpoint is scored joint by joint by name, whatever order the annotation file has."""

import json

import numpy as np
import pytest

from kdpose.checkpoints.load import SHIPPED, load_net
from kdpose.evaluation.evaluate import evaluate_net

HEADLESS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


@pytest.mark.slow
def test_another_order_gives_the_same_ap_and_fewer_joints_are_scored_alone(real_data, tmp_path):
    root = real_data / "coco_mini"
    path = root / "annotations/person_keypoints_val2017.json"
    images = str(root / "val2017")
    student = load_net(SHIPPED)

    def ap(annotations):
        return evaluate_net(
            student, annotations=str(annotations), images=images, flip=False, device="cpu"
        )

    content = json.loads(path.read_text())
    joints = content["categories"][0]["keypoints"]

    def kept(order, name):
        category = {"id": 1, "name": "person", "keypoints": [joints[k] for k in order]}
        people = [dict(row) for row in content["annotations"]]
        for row in people:
            points = np.array(row["keypoints"]).reshape(len(joints), 3)[order]
            row["keypoints"] = points.ravel().tolist()
        (tmp_path / name).write_text(
            json.dumps({**content, "annotations": people, "categories": [category]})
        )
        return ap(tmp_path / name)

    shuffled = kept(np.random.default_rng(0).permutation(len(joints)), "shuffled.json")
    assert shuffled["AP"] == pytest.approx(ap(path)["AP"], abs=1e-12)
    assert shuffled["AP"] > 0.3
    body = kept([k for k, name in enumerate(joints) if name not in HEADLESS], "body.json")
    assert len(body["shared_joints"]) == 12
    assert body["AP"] > 0.3
