"""The doctor's command line, and its brief look before a training."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

import kdpose.doctor
import kdpose.train
from kdpose.cli import CONF
from kdpose.skeletons.known import COCO, CROWDPOSE
from kdpose.skeletons.shared import SkeletonBridge
from kdpose.training.preflight import check_data


def run(monkeypatch, capsys, *overrides):
    """Exit status, and what the doctor printed."""
    monkeypatch.setattr(sys, "argv", ["kdpose.doctor", *map(str, overrides)])
    monkeypatch.setenv("COLUMNS", "200")
    try:
        kdpose.doctor.main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def broken(crowd, tmp_path):
    """The training annotations of the synthetic crowd with one person's v out of bounds."""
    source = crowd / "annotations" / "crowdpose_trainval.json"
    data = json.loads(source.read_text())
    data["annotations"][0]["keypoints"][2] = 7
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    return path


def test_clean_data(monkeypatch, capsys, crowd, tmp_path):
    out = tmp_path / "findings.json"
    sheet = tmp_path / "sheet.jpg"
    options = (f"dataset.root={crowd}", f"json={out}", f"sheet={sheet}")
    code, text = run(monkeypatch, capsys, "dataset=synthetic", *options)
    assert code == 0
    assert "clean" in text
    report = json.loads(out.read_text())
    assert report["exit_code"] == 0
    assert report["splits"]["train"]["images"] == report["splits"]["train"]["opened"] == 12
    assert {f["severity"] for f in report["findings"]} <= {"note"}
    with Image.open(sheet) as picture:
        assert picture.width > 8 * 192  # eight tiles beside each other


def test_errors(monkeypatch, capsys, crowd, broken, tmp_path):
    out = tmp_path / "findings.json"
    options = (f"annotations={broken}", f"images={crowd}/images", "open=2", f"json={out}")
    code, text = run(monkeypatch, capsys, *options)
    assert code == 1
    assert "1 error" in text
    finding = json.loads(out.read_text())["findings"][0]
    assert set(finding) == {"kind", "severity", "count", "message", "examples", "split"}
    assert (finding["kind"], finding["severity"], finding["count"]) == ("visibility", "error", 1)
    assert finding["examples"][0].keys() == {"detail", "image", "person"}


@pytest.mark.parametrize(
    ("category", "match"),
    [
        ({"sigmas": [0.1] * 13}, "got 13 sigmas and 14 joints"),
        ({"flip_pairs": [["a", "b"], ["b", "c"]]}, "'b' has more than one partner"),
        ({"flip_pairs": [["a", "z"]]}, "flip_pairs: no joint is called 'z'"),
    ],
)
def test_a_skeleton_that_does_not_fit_itself(monkeypatch, capsys, broken, category, match):
    data = json.loads(broken.read_text())
    data["categories"][0] |= {"keypoints": list("abcdefghijklmn"), "skeleton": []} | category
    broken.write_text(json.dumps(data))
    code, text = run(monkeypatch, capsys, f"annotations={broken}")
    assert code == 2
    assert match in " ".join(text.split())


def test_nothing_to_look_at(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, capsys)[0] == 1
    code, text = run(monkeypatch, capsys, f"annotations={tmp_path}/none.json", "skeleton=coco")
    assert code == 2
    assert "no annotations at" in " ".join(text.split())


@pytest.mark.parametrize("images", [["images=/nowhere"], []])
def test_a_sheet_without_images_hides_no_findings(monkeypatch, capsys, broken, tmp_path, images):
    sheet, out = tmp_path / "sheet.jpg", tmp_path / "findings.json"
    options = (f"annotations={broken}", f"sheet={sheet}", f"json={out}", *images)
    code, text = run(monkeypatch, capsys, *options)
    assert code == (2 if images else 1)
    assert "no contact sheet" in text
    kinds = {finding["kind"] for finding in json.loads(out.read_text())["findings"]}
    assert "visibility" in kinds
    assert ("missing_image" in kinds) == bool(images)
    assert not sheet.exists()


def test_a_checkpoint_of_other_joints(monkeypatch, capsys, tiny_checkpoints, broken):
    data = json.loads(broken.read_text())
    data["annotations"][0]["keypoints"][2] = 2
    broken.write_text(json.dumps(data))
    ckpt = f"ckpt={tiny_checkpoints['student']}"
    assert run(monkeypatch, capsys, f"annotations={broken}", ckpt)[0] == 0
    data["categories"][0]["keypoints"][13] = "chest"
    broken.write_text(json.dumps(data))
    code, text = run(monkeypatch, capsys, f"annotations={broken}", ckpt)
    assert code == 1
    assert "the checkpoint has no chest" in text


def brief(crowd, **paths):
    """The configuration of a training, as the brief look takes it."""
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=["dataset=synthetic", f"dataset.root={crowd}"])
    return OmegaConf.merge(cfg, {"dataset": {"train": paths}})


def test_before_training(crowd, broken, caplog):
    check_data(brief(crowd), CROWDPOSE)
    match = r"train split has visibility \(1\): .*See all by `kdpose doctor dataset=synth"
    with pytest.raises(ValueError, match=match):
        check_data(brief(crowd, annotations=str(broken)), CROWDPOSE)
    assert not caplog.records


def test_before_training_one_bad_image_is_a_warning(crowd, tmp_path, caplog):
    images = tmp_path / "images"
    shutil.copytree(crowd / "images", images)
    names = sorted(images.iterdir())
    file = json.loads((crowd / "annotations" / "crowdpose_trainval.json").read_text())
    first = images / file["images"][0]["file_name"]
    first.write_bytes(first.read_bytes()[:200])
    check_data(brief(crowd, images=str(images)), CROWDPOSE)
    assert "train unreadable_image 1" in caplog.text
    for path in names:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="train split has unreadable_image"):
        check_data(brief(crowd, images=str(images)), CROWDPOSE)


def test_before_training_images_may_be_in_a_pack(crowd, broken, caplog):
    check_data(brief(crowd, images="/nowhere"), CROWDPOSE)
    assert not caplog.records
    with pytest.raises(ValueError, match="train split has visibility"):  # still checked
        check_data(brief(crowd, images="/nowhere", annotations=str(broken)), CROWDPOSE)


def test_before_training_the_cause_is_told_not_what_follows_from_it(crowd, tmp_path):
    data = json.loads((crowd / "annotations" / "crowdpose_trainval.json").read_text())
    for image in data["images"]:
        image["id"] = f"frame_{image['id']}"
    for person in data["annotations"]:
        person["image_id"] = f"frame_{person['image_id']}"
    (tmp_path / "words.json").write_text(json.dumps(data))
    match = r"malformed_image \(12\).* has id 'frame_.*': ids must be whole numbers"
    with pytest.raises(ValueError, match=match):
        check_data(brief(crowd, annotations=str(tmp_path / "words.json")), CROWDPOSE)


def test_training_stops_at_errors(monkeypatch, capsys, crowd, broken, tmp_path):
    words = ["dataset=synthetic", f"dataset.root={crowd}", f"dataset.train.annotations={broken}"]
    words += ["backbone=mobilenetv4_tiny", "codec.input_size=[48,64]", f"runs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["kdpose.train", *words])
    with pytest.raises(SystemExit) as ended:
        kdpose.train.main()
    assert ended.value.code == 1
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert f"kdpose doctor dataset=synthetic dataset.root={crowd}" in line
    assert "doctor=false" in line
    assert not list(Path(tmp_path).rglob("*.ckpt"))


@pytest.fixture
def several(crowd, tmp_path):
    """Overrides of a training set of COCO's joints and one of boxes alone; and answers for both."""
    source = crowd / "annotations" / "crowdpose_trainval.json"
    data, answers = json.loads(source.read_text()), {}
    bridge = SkeletonBridge.between(CROWDPOSE, COCO)
    for name in ("labelled", "boxes"):
        persons, found = [], []
        for person in data["annotations"]:
            theirs = [0] * 51
            for ours, its in zip(bridge.student_joints, bridge.teacher_joints, strict=True):
                theirs[3 * its : 3 * its + 3] = person["keypoints"][3 * ours : 3 * ours + 3]
            kept = {k: v for k, v in person.items() if k not in ("keypoints", "num_keypoints")}
            persons.append(kept | ({"keypoints": theirs} if name == "labelled" else {}))
            sure = [0.9 if n % 3 == 2 else v for n, v in enumerate(theirs)]
            found.append({k: person[k] for k in ("id", "image_id", "bbox")} | {"keypoints": sure})
        joints = COCO.to_category() if name == "labelled" else {"id": 1, "name": "person"}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(data | {"annotations": persons, "categories": [joints]}))
        answers[name] = tmp_path / f"{name}_answers.json"
        answers[name].write_text(json.dumps(found))
    parts = ",".join(
        f"{{annotations: {tmp_path}/{name}.json, images: {crowd}/images}}" for name in answers
    )
    train = [f"dataset.root={crowd}", "~dataset.train", f"+dataset.train=[{parts}]"]
    return train, f"teacher.file=[{','.join(map(str, answers.values()))}]"


def test_a_list_of_sets_and_boxes_alone(monkeypatch, capsys, several, tmp_path):
    train, answers = several
    out, sheet = tmp_path / "findings.json", tmp_path / "sheet.jpg"
    code, text = run(
        monkeypatch, capsys, "dataset=synthetic", *train, f"json={out}", f"sheet={sheet}"
    )
    assert code == 0
    findings = {f["kind"]: f for f in json.loads(out.read_text())["findings"]}
    assert findings["boxes_alone"]["split"] == "train.1"
    assert findings["shared_joints"]["split"] == "train.0"
    assert [e["detail"] for e in findings["shared_joints"]["examples"]] == ["head", "neck"]
    (line,) = [line for line in text.splitlines() if "labelled.json: " in line and "/0/0" in line]
    assert "head 0/0/0" in line
    assert sheet.is_file()

    code, text = run(monkeypatch, capsys, "dataset=synthetic", *train, "teacher=poses", answers)
    (line,) = [line for line in text.splitlines() if "boxes.json: " in line and "/0" in line]
    persons = line.partition(" persons")[0].rpartition(" ")[2]
    assert f"left_shoulder 0/{persons}/0" in line


def test_before_training_boxes_alone_are_no_error(crowd, several, caplog):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=["dataset=synthetic", *several[0]])
    check_data(cfg, CROWDPOSE)
    assert "train.1 boxes_alone" in caplog.text


def test_a_network_is_no_file_of_answers(monkeypatch, capsys, several):
    words = ("dataset=synthetic", *several[0], "teacher=onnx", "teacher.file=F.onnx")
    code, text = run(monkeypatch, capsys, *words)
    assert code == 1
    assert "kdpose doctor counts stored answers" in text
