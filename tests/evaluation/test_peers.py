"""Networks and results of other projects are scored on the joints that the annotations have."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kdpose.evaluate import main
from kdpose.metrics.keypoint_ap import keypoint_ap
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.shared import SkeletonBridge

W, H = 48, 64
SHARED = SkeletonBridge.between(CROWDPOSE, COCO)


@pytest.fixture(scope="module")
def truth(crowd):
    return crowd / "annotations" / "crowdpose_test.json"


@pytest.fixture(scope="module")
def results(truth, tmp_path_factory):
    """The labels as COCO's 17 joints, some pixels off, as another project would find them."""
    noise, found = np.random.default_rng(0), []
    for person in json.loads(truth.read_text())["annotations"]:
        labelled = np.array(person["keypoints"], float).reshape(-1, 3)
        points = np.zeros((17, 3))
        points[list(SHARED.teacher_joints)] = labelled[list(SHARED.student_joints)]
        points[:, :2] += noise.normal(0, 1.5, (17, 2))
        points[:, 2] = 0.9
        found.append(
            {
                "image_id": person["image_id"],
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "score": float(noise.uniform()),
            }
        )
    path = tmp_path_factory.mktemp("peer") / "RESULTS.json"
    path.write_text(json.dumps(found))
    return path


def only(joints, keypoints):
    return np.reshape(keypoints, (-1, 3))[list(joints)].ravel().tolist()


def evaluate(monkeypatch, tmp_path, *words):
    """What ``kdpose evaluate`` writes."""
    out = f"out={tmp_path}/metrics.json"
    monkeypatch.setattr(sys, "argv", ["kdpose.evaluate", *words, out])
    main()
    return json.loads((tmp_path / "metrics.json").read_text())


def test_stored_poses_are_scored_on_the_shared_joints(
    truth, results, tmp_path, monkeypatch, capsys
):
    words = ("teacher=poses", f"teacher.file={results}", f"annotations={truth}")
    record = evaluate(monkeypatch, tmp_path, *words)

    content = json.loads(truth.read_text())
    for person in content["annotations"]:
        person["keypoints"] = only(SHARED.student_joints, person["keypoints"])
        person["num_keypoints"] = int(np.count_nonzero(person["keypoints"][2::3]))
    (tmp_path / "truth.json").write_text(json.dumps(content))
    found = json.loads(results.read_text())
    ap = keypoint_ap(
        tmp_path / "truth.json",
        [{**r, "keypoints": only(SHARED.teacher_joints, r["keypoints"])} for r in found],
        protocol="coco",
        sigmas=[CROWDPOSE.sigmas[k] for k in SHARED.student_joints],
    )["AP"]
    assert 0.2 < record["AP"] < 1
    assert record["AP"] == ap
    assert len(record["shared_joints"]) == 12
    assert record["predictions"] == str(results)
    said = " ".join(capsys.readouterr().out.split())
    assert "12 shared joints" in said
    assert "RESULTS" in said


def test_a_network_of_other_joints_is_scored_on_the_shared_ones(
    crowd, truth, tmp_path, monkeypatch, capsys
):
    nodes = [
        helper.make_node("MaxPool", ["image"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Concat", ["small"] * 6, ["many"], axis=1),
        helper.make_node("Slice", ["many", "from", "to", "axis"], ["map"]),
    ]
    numbers = {"from": 0, "to": 17, "axis": 1}
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, H, W))],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, None)],
        [helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    record = evaluate(
        monkeypatch, tmp_path, "teacher=onnx", f"teacher.file={tmp_path}/net.onnx",
        f"annotations={truth}", f"images={crowd}/images", "num_workers=0", "device=cpu",
        "protocol=crowdpose",
    )  # fmt: skip
    assert record["shared_joints"] == [CROWDPOSE.joints[k] for k in SHARED.student_joints]
    assert (record["skeleton"], record["annotations"]) == ("crowdpose", str(truth))
    assert record["ckpt"].endswith("net.onnx (from teacher.file)")
    assert "12 shared joints" in " ".join(capsys.readouterr().out.split())


def test_a_file_of_poses_predicts_nothing(truth, results, tmp_path, monkeypatch, capsys):
    from kdpose.predict import main as predict

    words = [
        "teacher=poses",
        f"teacher.file={results}",
        f"source={truth.parents[1]}/images",
        f"out={tmp_path}",
    ]
    monkeypatch.setattr(sys, "argv", ["kdpose.predict", *words])
    with pytest.raises(SystemExit):
        predict()
    assert "not a network that can run here" in capsys.readouterr().err
