"""Evaluation of a network on its boxes; figures: tests/metrics, files of results: test_score."""

import json
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from kdpose.checkpoints.load import load_net
from kdpose.cli import CONF
from kdpose.data.annotations import load_persons
from kdpose.data.dataset import PoseDataset
from kdpose.evaluate import main
from kdpose.evaluation.evaluate import evaluate_net, predict_poses
from kdpose.runtime.provenance import sha256
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.stage import build_net, describe, train

TINY = (
    "+experiment=baseline",
    "+scale=synthetic",
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec=simcc",  # label smoothing, as published
    "codec.input_size=[48,64]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
)


def composed(*overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", overrides=[*TINY, *overrides])


@pytest.fixture(scope="module")
def ckpt(crowd, tmp_path_factory):
    """A checkpoint of an untrained network; its poses are poor, but poses."""
    torch.manual_seed(0)
    cfg = composed(f"dataset.root={crowd}")
    net, recipe = build_net(cfg, CROWDPOSE)
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    path = tmp_path_factory.mktemp("runs") / "best.ckpt"
    torch.save({"state_dict": weights, "kdpose": describe(cfg, recipe)}, path)
    return path


def command(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, overrides)])
    main()


def undated(record):
    return {key: value for key, value in record.items() if key != "date"}


def test_record_of_the_networks_own_split(ckpt, crowd, truth):
    loaded = load_net(ckpt)
    record = evaluate_net(loaded, num_workers=0)
    data = json.loads(truth.read_text())
    assert record["persons"] == record["boxes"] == len(data["annotations"])
    assert record["images"] == len(data["images"]) == 6
    expected = {
        "split": "crowdpose_test",
        "annotations_sha256": sha256(truth),
        "box_source": "gt",
        "boxes_sha256": None,
        "flip": True,
        "flip_shift_bins": 1,
        "score_threshold": 0.01,
        "oks_nms": 0.9,
        "max_detections": 20,
        "input_size": [48, 64],
        "protocol": "crowdpose",
        "params": sum(p.numel() for p in loaded.net.parameters()),
    }
    assert {key: record[key] for key in expected} == expected
    assert json.loads(json.dumps(record)) == record


def test_one_evaluation_parses_its_annotations_once(ckpt, truth, detections):
    opened, watching = [], True

    def watch(event, args):
        if watching and event == "open":
            opened.append(str(args[0]))

    sys.addaudithook(watch)  # stays, deaf
    evaluate_net(load_net(ckpt), boxes=["gt", str(detections)], num_workers=0)
    watching = False
    assert [opened.count(str(path)) for path in (truth, detections)] == [2, 2]  # parsed, hashed


def test_same_numbers_again(ckpt, tmp_path):
    records = []
    for name in ("a.json", "b.json"):
        out = tmp_path / name
        records.append(evaluate_net(load_net(ckpt), num_workers=0, results_out=out))
    assert undated(records[0]) == undated(records[1])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.slow
def test_same_seed_same_numbers(crowd, tmp_path):
    """Trained and scored twice from one seed: the same weights, poses and figures."""
    runs = {}
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        where = (f"name={name}", f"seed={seed}", f"dataset.root={crowd}", f"runs={tmp_path}")
        metrics = train(composed(*where))
        weights = torch.load(tmp_path / name / "best.ckpt", weights_only=True)["state_dict"]
        poses = (tmp_path / name / "predictions.json").read_bytes()
        figures = {k: v for k, v in undated(metrics).items() if k not in ("ckpt", "training")}
        runs[name] = (figures, poses, weights)
    first, second, other = (runs[name] for name in ("first", "second", "other"))
    assert first[0] == second[0]
    assert first[1] == second[1] != other[1]
    assert all(torch.equal(value, second[2][name]) for name, value in first[2].items())
    shutil.rmtree(tmp_path)


def test_both_boxes_in_one_pass_are_those_of_two(ckpt, detections, monkeypatch, tmp_path, capsys):
    out = tmp_path / "both.json"
    where = (f"ckpt={ckpt}", "num_workers=0", f"out={out}")
    command(monkeypatch, *where, f"boxes=[gt,{detections}]")
    record = json.loads(out.read_text())
    assert list(record["sources"]) == ["gt", "det.json"]
    for boxes, name in (("gt", "gt"), (str(detections), "det.json")):
        alone = evaluate_net(load_net(ckpt), boxes=boxes, num_workers=0)
        both = record["sources"][name]
        close = ("AP", "AP50", "AP75", "AR", "AP_easy", "AP_medium", "AP_hard")
        # batches differ, so may the last bit of a float, but no figure that is printed
        assert [both[k] for k in close] == pytest.approx([alone[k] for k in close], abs=1e-6)
        facts = ("box_source", "boxes_sha256", "boxes", "persons", "annotations_sha256")
        assert [both[k] for k in facts] == [alone[k] for k in facts]
    assert record["sources"]["det.json"]["boxes"] == 2 * record["sources"]["gt"]["boxes"]
    assert record["AP"] == record["sources"]["gt"]["AP"]
    printed = capsys.readouterr().out
    assert ", gt " in printed
    assert ", det.json " in printed


def test_results_of_a_source_are_its_own_persons(ckpt, detections, tmp_path):
    """The first box source's results are written, as that source alone gives them."""
    for name, boxes in (("both", [str(detections), "gt"]), ("alone", str(detections))):
        out = tmp_path / f"{name}.json"
        evaluate_net(load_net(ckpt), boxes=boxes, num_workers=0, batch_size=2, results_out=out)
    both, alone = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("both", "alone"))
    assert [r["image_id"] for r in both] == [r["image_id"] for r in alone]
    np.testing.assert_allclose(
        [r["keypoints"] for r in both], [r["keypoints"] for r in alone], atol=1e-2
    )


def test_scoring_the_written_results_gives_the_same_figures(ckpt, truth, monkeypatch, tmp_path):
    results, out = tmp_path / "r.json", tmp_path / "m.json"
    record = evaluate_net(load_net(ckpt), num_workers=0, results_out=results)
    where = (f"annotations={truth}", "protocol=crowdpose", f"out={out}")
    command(monkeypatch, f"predictions={results}", *where)
    again = json.loads(out.read_text())
    for name in (
        "AP",
        "AP50",
        "AP75",
        "AR",
        "AP_easy",
        "AP_medium",
        "AP_hard",
        "sigmas",
        "persons",
    ):
        assert again[name] == record[name]


def test_poses_against_a_slow_reference(ckpt, crowd, truth):
    """From probabilities to image pixels by hand, person by person, with the flip test."""
    net = load_net(ckpt).net
    persons = load_persons(truth, CROWDPOSE)
    dataset = PoseDataset(persons, crowd / "images", CROWDPOSE, (48, 64))
    got = predict_poses(net, dataset, flip=True, batch_size=5, num_workers=0, device="cpu")
    for row in range(len(persons)):
        x, y, w, h = persons.box[row].tolist()
        scale = max(w, 0.75 * h) * 1.25 / 48  # image pixels per crop pixel
        crop = dataset[row].image[None]
        with torch.no_grad():
            plain, mirror = net(crop).logits, net(crop.flip(-1)).logits
        for k, other in enumerate(CROWDPOSE.flip_order):
            px = plain.x[0, k].softmax(0)
            qx = mirror.x[0, other].flip(0)
            qx = torch.cat([qx[1:], qx[-1:]]).softmax(0)
            mean_x = (px + qx) / 2
            mean_y = (plain.y[0, k].softmax(0) + mirror.y[0, other].softmax(0)) / 2
            u, v = mean_x.argmax().item() / 2, mean_y.argmax().item() / 2
            place = (x + w / 2 + (u - 24) * scale, y + h / 2 + (v - 32) * scale)
            assert np.abs(got.keypoints[row, k] - place).max() < 0.01
            score = max(mean_x.max().item(), mean_y.max().item())
            assert got.joint_scores[row, k] == pytest.approx(score, rel=1e-4)


@pytest.fixture
def testdev(ckpt, crowd, truth, tmp_path):
    """Images without persons in COCO's layout, as test-dev has them; no detector file yet."""
    data = json.loads(truth.read_text())
    path = tmp_path / "annotations" / "image_info_test-dev2017.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": data["images"], "categories": data["categories"]}))
    return f"ckpt={ckpt}", f"annotations={path}", f"images={crowd}/images", "num_workers=0"


def test_a_submission_without_ground_truth(testdev, detections, monkeypatch, tmp_path, capsys):
    where = testdev
    usual = tmp_path / "person_detection_results"
    usual.mkdir()
    name = "COCO_test-dev2017_detections_AP_H_609_person.json"
    shutil.copy(detections, usual / name)
    out, zipped = tmp_path / "m.json", tmp_path / "sub.zip"
    command(
        monkeypatch, *where, "boxes=auto", "protocol=coco", f"submission={zipped}", f"out={out}"
    )
    with zipfile.ZipFile(zipped) as file:
        (inner,) = file.namelist()
        results = json.loads(file.read(inner))
    assert inner == "person_keypoints_test-dev2017_synthetic-baseline_results.json"
    assert {tuple(r) for r in results} == {("image_id", "category_id", "keypoints", "score")}
    assert len(results) == json.loads(out.read_text())["results"] > 0
    assert json.loads(out.read_text())["AP"] is None
    printed = capsys.readouterr().out
    assert "n/a" in printed
    assert name in printed.replace("\n", "")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["boxes=det.json"], "has no labelled persons to score: set submission=FILE.zip"),
        (["boxes=gt", "submission=a.zip"], "no ground-truth boxes: set boxes=DETECTIONS.json"),
        (
            ["boxes=auto", "submission=a.zip"],
            "no COCO_test-dev2017_detections_AP_H_609_person.json",
        ),
        ([f"predictions={__file__}", "annotations=null"], "needs annotations= and protocol="),
        (["annotations=none.json"], "no annotations at"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(testdev, overrides, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", *testdev, *overrides])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert line in error
    assert "\n" not in error
