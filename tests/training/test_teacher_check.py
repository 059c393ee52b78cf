"""A teacher that knows nothing is refused, one that knows something is not; both stages train."""

import json
import logging
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from kdpose.cli import CONF
from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.dataset import collate
from kdpose.evaluation.shared_joints import SharedSplit
from kdpose.losses.simcc_kl import simcc_kl
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.training.stage import train
from kdpose.training.teacher_check import TeacherCheck


@pytest.fixture
def save(recipe):
    """Writes a network's checkpoint."""

    def write(net, path):
        weights = {f"net.{name}": value for name, value in net.state_dict().items()}
        torch.save({"state_dict": weights, "kdpose": {"net": recipe(net.skeleton)}}, path)
        return path

    return write


@pytest.fixture(scope="module")
def data(crowd):
    files = {
        name: {
            "annotations": str(crowd / "annotations" / f"crowdpose_{stem}.json"),
            "images": str(crowd / "images"),
        }
        for name, stem in (("train", "trainval"), ("val", "test"))
    }
    module = CocoKeypointDataModule(
        **files, skeleton=CROWDPOSE, protocol="crowdpose", input_size=(48, 64), num_workers=0
    )
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def good(data, body, build):
    """A teacher of the twelve joints of body that has learned the validation persons by heart."""
    everyone = collate([data.datasets["val"][row] for row in range(len(data.datasets["val"]))])
    bridge = SkeletonBridge.between(body, CROWDPOSE)
    order = list(bridge.teacher_joints)
    net = build(body)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    target = net.codec.encode(everyone.joints[:, order], everyone.visible[:, order])
    for _ in range(60):
        optimizer.zero_grad()
        simcc_kl(net(everyone.image).logits, target).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def constant(build):
    net = build(COCO)
    with torch.no_grad():
        net.head.final_layer.weight.zero_()
        net.head.mlp_head_x.bias.copy_(torch.arange(96.0))
    return net.eval()


def checked(data, teacher, record, force=False, identity=None, student=None):
    bridge = SkeletonBridge.between(CROWDPOSE, teacher.skeleton)
    check = TeacherCheck(SharedSplit(data, bridge), "best.ckpt", force, "cpu")
    check.before(teacher, record, identity or {"ckpt_sha256": "a"}, student)
    return check


def test_a_good_teacher_passes(data, good, tmp_path):
    state = torch.get_rng_state()
    checked(data, good, tmp_path / "teacher.json")
    assert torch.equal(torch.get_rng_state(), state)  # the training is the same with a check
    assert not any(p.is_inference() for p in good.parameters())
    figures = json.loads((tmp_path / "teacher.json").read_text())
    assert figures["mean_oks"] > figures["chance_oks"] + 0.1
    assert 0 < figures["AP"] <= 1
    assert figures["persons"] == len(data.datasets["val"])
    assert figures["images"] == 6
    assert figures["of"]["ckpt_sha256"] == "a"


def test_a_constant_teacher_is_refused(data, constant, tmp_path):
    wanted = r"gives the same pose whatever the image \(its joints move by 0\.\d\d % of the crop\)"
    with pytest.raises(ValueError, match=wanted):
        checked(data, constant, tmp_path / "teacher.json")


def test_an_untrained_teacher_is_refused_with_both_figures(data, tmp_path, build):
    wanted = (
        r"teacher best\.ckpt is no better than chance: AP 0\.\d{3}, mean OKS 0\.\d{3}, that of the "
        r"mean training pose 0\.\d{3}, on \d+ boxes of crowdpose_test; .*teacher\.force=true"
    )
    with pytest.raises(ValueError, match=wanted):
        checked(data, build(COCO).eval(), tmp_path / "teacher.json")


def test_force_makes_it_a_warning(data, constant, tmp_path, caplog):
    checked(data, constant, tmp_path / "teacher.json", force=True)
    assert "training anyway (teacher.force=true)" in caplog.text


def test_what_was_measured_is_not_measured_again(data, good, constant, tmp_path):
    record = tmp_path / "teacher.json"
    checked(data, good, record)
    before = record.read_bytes()
    # told that it is the same file, it does not look; told of another, it does
    bridge = SkeletonBridge.between(CROWDPOSE, good.skeleton)
    again = TeacherCheck(SharedSplit(data, bridge), "best.ckpt", device="cpu")
    again.before(constant, record, {"ckpt_sha256": "a"})
    assert record.read_bytes() == before
    with pytest.raises(ValueError, match="the same pose whatever the image"):
        checked(data, constant, record, identity={"ckpt_sha256": "b"})


def test_a_better_student_is_told_of(data, good, tmp_path, caplog, build):
    """Before stage 2, and after training, by its results; and silence the other way round."""
    caplog.set_level(logging.WARNING)
    poor = build(CROWDPOSE).eval()
    checked(data, good, tmp_path / "one.json", student=poor)
    assert "teacher below student" not in caplog.text
    check = checked(
        data, poor, tmp_path / "two.json", force=True, student=good_as_crowdpose(good, build)
    )
    assert "the student's before stage 2 is" in caplog.text
    caplog.clear()
    people = json.loads(check.split.annotations.read_bytes())["annotations"]
    results = [
        {"image_id": p["image_id"], "keypoints": p["keypoints"], "score": 1.0} for p in people
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(results))
    check.after(tmp_path)
    assert "the student's is 1.000 (14 shared joints, crowdpose_test)" in caplog.text
    (tmp_path / "predictions.json").write_text("[]")
    caplog.clear()
    check.after(tmp_path)
    assert not caplog.text


def test_with_held_out_images_both_are_measured_on_these(data, good, tmp_path, caplog, build, save):
    """The run's results are of another split, which is read once: at the end, for the report."""
    parts = {"train": data.splits["train"], "val": data.splits["train"], "tune": data.splits["val"]}
    held_out = CocoKeypointDataModule(
        **parts, skeleton=CROWDPOSE, protocol="crowdpose", input_size=(48, 64), num_workers=0
    )
    held_out.setup("fit")
    check = checked(held_out, build(COCO).eval(), tmp_path / "teacher.json", force=True)
    student = good_as_crowdpose(good, build)
    save(student, tmp_path / "best.ckpt")
    (tmp_path / "predictions.json").write_text('[{"image_id": 10000}]')
    check.after(tmp_path)
    ours = check.split.measure(student, check.split.bridge.student_joints, "cpu")["AP"]
    assert ours > 0.1
    assert f"the student's is {ours:.3f} (12 shared joints, crowdpose_test)" in caplog.text


def good_as_crowdpose(good, build):
    """The good teacher's weights in CrowdPose's joints, head and neck left as they begin."""
    net = build(CROWDPOSE)
    bridge = SkeletonBridge.between(CROWDPOSE, good.skeleton)
    theirs = good.state_dict()
    last = {name: net.state_dict()[name] for name in theirs if "final_layer" in name}
    for name, value in last.items():
        value[list(bridge.student_joints)] = theirs[name][list(bridge.teacher_joints)]
    net.load_state_dict({**theirs, **last})
    return net.eval()


TINY = (
    "backbone=mobilenetv4_tiny",
    "head.init=projection",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
)


def run(crowd, runs, stage, *overrides):
    with initialize_config_dir(CONF, version_base="1.3"):
        experiment = (f"+experiment={stage}", "+scale=synthetic")
        where = (f"dataset.root={crowd}", f"runs={runs}")
        return train(compose("train", overrides=[*experiment, *where, *TINY, *overrides]))


@pytest.mark.slow
def test_17_joints_teach_14_in_both_stages(crowd, tmp_path, capsys, caplog, build, save):
    """Untrained weights: refused as they are, and under force enough to take real steps."""
    teacher = save(build(COCO), tmp_path / "coco.ckpt")
    given = f"teacher.ckpt={teacher}"
    with pytest.raises(ValueError, match=r"coco\.ckpt is no better than chance"):
        run(crowd, tmp_path, "stage1", given)
    assert not list((tmp_path / "synthetic_stage1").glob("*.ckpt"))
    run(crowd, tmp_path, "stage1", given, "teacher.force=true")
    run(crowd, tmp_path, "stage2", given, "teacher.force=true")
    said = " ".join(capsys.readouterr().out.split())
    assert "12 of 14 joints and 12 of 15 limbs taught by 'coco': left_shoulder " in said
    assert "right_ankle; from labels: head neck" in said
    for stage, terms in (("stage1", ("kl", "fea", "pos", "cst")), ("stage2", ("gcn_1", "gcn_3"))):
        folder = Path(tmp_path / f"synthetic_{stage}")
        figures = json.loads((folder / "teacher.json").read_text())
        assert figures["of"]["joints"] == list(CROWDPOSE.joints[:12])
        assert figures["of"]["ckpt"] == str(teacher)
        assert ("student" in figures) == (stage == "stage2")
        log = (folder / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
        rows = [dict(zip(log[0].split(","), row.split(","), strict=True)) for row in log[1:]]
        for term in terms:
            values = [float(v) for row in rows if (v := row.get(f"train/loss_{term}"))]
            assert values
            assert min(values) > 0


def test_detected_boxes_are_matched_to_the_persons_they_show(data, good, crowd, tmp_path):
    """The labelled boxes as detections, in another order and with one that shows nobody."""
    gt = checked(data, good, tmp_path / "gt.json").figures
    people = json.loads((crowd / "annotations" / "crowdpose_test.json").read_text())["annotations"]
    boxes = [
        {"image_id": p["image_id"], "category_id": 1, "bbox": p["bbox"], "score": 0.9}
        for p in reversed(people)
    ]
    boxes.append({**boxes[0], "bbox": [0.0, 0.0, 3.0, 3.0], "score": 0.01})
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    detected = CocoKeypointDataModule(
        **data.splits,
        skeleton=CROWDPOSE,
        protocol="crowdpose",
        input_size=(48, 64),
        num_workers=0,
        boxes=str(tmp_path / "boxes.json"),
    )
    detected.setup("fit")
    det = checked(detected, good, tmp_path / "det.json").figures
    assert det["persons"] == len(boxes)
    assert det["mean_oks"] == pytest.approx(gt["mean_oks"], abs=0.05)  # boxes differ by a pixel
    assert det["chance_oks"] == pytest.approx(gt["chance_oks"], abs=0.05)
    of = json.loads((tmp_path / "det.json").read_text())["of"]
    assert of["box_source"] == str(tmp_path / "boxes.json")
    assert len(of["boxes_sha256"]) == 64


def test_no_check_where_none_is_wanted(crowd, tmp_path, build, save):
    given = f"teacher.ckpt={save(build(CROWDPOSE), tmp_path / 'teacher.ckpt')}"
    run(crowd, tmp_path, "stage1", given, "teacher.check=false")
    assert not (tmp_path / "synthetic_stage1" / "teacher.json").exists()
    # nor where no term asks the teacher
    run(crowd, tmp_path, "stage1", given, "loss=[simcc_kl]", "name=alone")
    assert not (tmp_path / "alone" / "teacher.json").exists()
