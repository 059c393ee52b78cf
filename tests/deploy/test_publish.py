"""A checkpoint passed on: half the size, the same poses, a card that says what it is."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

import kdpose.checkpoints.load
import kdpose.evaluation.calibration
from kdpose.checkpoints.load import load_net
from kdpose.cli import CONF
from kdpose.evaluation.evaluate import evaluate_net
from kdpose.publish import main
from kdpose.skeletons.known import CROWDPOSE
from kdpose.training.stage import build_net, describe

pytestmark = pytest.mark.slow

WORDS = ("terms=research only", "limits=untrained")


@pytest.fixture(scope="module")
def ckpt(crowd, tmp_path_factory):
    """A run's checkpoint, of an untrained network, with what trained it left out."""
    tiny = ("backbone=mobilenetv4_tiny", "codec.input_size=[48,64]", f"dataset.root={crowd}")
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=["+experiment=baseline", "+scale=synthetic", *tiny])
    torch.manual_seed(0)
    net, recipe = build_net(cfg, CROWDPOSE)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    state["align.weight"] = torch.zeros(1)
    path = tmp_path_factory.mktemp("runs") / "best.ckpt"
    torch.save({"state_dict": state, "kdpose": describe(cfg, recipe), "epoch": 3}, path)
    return path


@pytest.fixture
def publish(ckpt, crowd, tmp_path, monkeypatch):
    def run(*overrides):
        monkeypatch.chdir(crowd.parent)
        words = [f"ckpt='{ckpt}'", f"out='{tmp_path}'", "device=cpu", *WORDS, *overrides]
        monkeypatch.setattr(sys, "argv", ["kdpose.publish", *words])
        main()
        return tmp_path

    return run


def test_half_the_bytes_and_the_same_poses(publish, ckpt, crowd):
    published = publish() / "student.ckpt"
    content = torch.load(published, weights_only=True)
    assert set(content) == {"kdpose", "state_dict"}
    floats = [v for v in content["state_dict"].values() if v.is_floating_point()]
    assert {v.dtype for v in floats} == {torch.float16}
    assert "align.weight" not in content["state_dict"]
    assert published.stat().st_size < 0.6 * ckpt.stat().st_size
    crops = torch.randint(0, 256, (3, 3, 64, 48), dtype=torch.uint8)
    with torch.inference_mode():
        ours, theirs = (load_net(path).net(crops).logits for path in (published, ckpt))
    torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=0.01 * theirs.x.abs().max().item())
    dataset = content["kdpose"]["dataset"]
    assert dataset["annotations"] == "annotations/crowdpose_test.json"  # below the folder of data
    assert dataset["train"]["images"] == "images"


def test_the_card_says_what_evaluation_says(publish):
    folder = publish()
    card = (folder / "MODEL_CARD.md").read_text()
    measured = evaluate_net(load_net(folder / "student.ckpt"), device="cpu")
    row = next(line for line in card.splitlines() if line.startswith("| as published"))
    assert row.split("|")[2].strip() == f"{100 * measured['AP']:.1f}"
    assert "- **Teacher**: none" in card
    assert "- **Trained by**: `not recorded`" in card
    for fact in ("research only", "untrained", "48x64 pixels", "mobilenetv4", "left_shoulder"):
        assert fact in card


def test_the_card_names_command_and_teacher(publish, ckpt, tiny_checkpoints):
    """As the run recorded them; a command given by hand goes before."""
    teacher = {"AP": 0.25, "persons": 9, "of": {"ckpt": str(tiny_checkpoints["student"])}}
    teacher["of"]["ckpt_sha256"] = "ab12"
    (ckpt.parent / "teacher.json").write_text(json.dumps(teacher))
    trained = {"version": "0.1.0", "commit": "cd34", "training": {"command": "kdpose-train a=b"}}
    (ckpt.parent / "metrics.json").write_text(json.dumps(trained))
    try:
        card = (publish() / "MODEL_CARD.md").read_text()
        assert "commit cd34" in card
        assert "- **Trained by**: `kdpose-train a=b`" in card
        told = next(line for line in card.splitlines() if line.startswith("- **Teacher**"))
        for fact in ("mobilenetv4", "student.ckpt", "sha256 `ab12`", "AP 25.0 on 9 persons"):
            assert fact in told
        card = (publish("command='make a student'") / "MODEL_CARD.md").read_text()
        assert "- **Trained by**: `make a student`" in card
        assert "and changes to it" not in card
        (ckpt.parent / "metrics.json").write_text(json.dumps({**trained, "dirty": True}))
        assert "commit cd34 and changes to it" in (publish() / "MODEL_CARD.md").read_text()
    finally:
        for name in ("teacher.json", "metrics.json"):
            (ckpt.parent / name).unlink()


def test_what_is_published_is_used_where_no_checkpoint_is_named(
    publish, tmp_path, crowd, monkeypatch
):
    """As it will be when the file lies in the package: load, predict, evaluate, demo."""
    annotations = crowd / "annotations/crowdpose_test.json"
    monkeypatch.setattr(kdpose.checkpoints.load, "SHIPPED", publish() / "student.ckpt")
    assert kdpose.load(device="cpu").skeleton.joints == CROWDPOSE.joints
    run = ["device=cpu", "flip=false"]
    files = [f"{key}='{annotations}'" for key in ("source", "boxes")]
    for command, words in {
        "predict": [*run, *files, f"out='{tmp_path}/poses'"],
        "evaluate": [*run, "num_workers=0", "batch_size=8", f"out='{tmp_path}/m.json'"],
    }.items():
        monkeypatch.setattr(sys, "argv", ["kdpose", *words])
        importlib.import_module(f"kdpose.{command}").main()
    count = len(json.loads(annotations.read_text())["annotations"])
    assert len(json.loads((tmp_path / "poses/predictions.json").read_text())) == count
    assert json.loads((tmp_path / "m.json").read_text())["persons"] > 0


@pytest.mark.parametrize("command", ["predict", "evaluate", "demo"])
def test_without_a_student_a_line_says_so(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kdpose.checkpoints.load, "SHIPPED", tmp_path / "none.ckpt")
    words = ["source=photo.jpg"] if command == "predict" else []
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.jpg")
    monkeypatch.setattr(sys, "argv", ["kdpose", *words])
    with pytest.raises(SystemExit):
        importlib.import_module(f"kdpose.{command}").main()
    assert "no checkpoint is named, and kdpose came without" in capsys.readouterr().err


def test_scores_become_probabilities(publish, ckpt, monkeypatch):
    """Two numbers in the file; a network whose joints are all wrong stays as it is."""

    def none(joints, *_):
        return np.zeros(joints.shape[:2], bool)

    def half(joints, *_):
        return np.arange(joints[..., 0].size).reshape(joints.shape[:2]) % 2 == 0

    monkeypatch.setattr(kdpose.evaluation.calibration, "within_reach", none)
    folder = publish()
    assert "not calibrated" in (folder / "MODEL_CARD.md").read_text()
    assert not (folder / "calibration.png").exists()
    monkeypatch.setattr(kdpose.evaluation.calibration, "within_reach", half)
    published = publish() / "student.ckpt"
    described = torch.load(published, weights_only=True)["kdpose"]["net"]
    assert load_net(published).net.calibration == described["calibration"]
    assert len(described["calibration"]) == 2
    assert (folder / "calibration.png").is_file()
    assert "sigmoid(" in (folder / "MODEL_CARD.md").read_text()
    assert "calibration" not in torch.load(ckpt, weights_only=True)["kdpose"]["net"]


def test_a_file_beyond_the_budget_is_no_student(publish, tmp_path, capsys):
    with pytest.raises(SystemExit):
        publish("budget=-0.5")
    assert "loses 0.00 AP in half precision, budget is -0.5" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["rejected.ckpt"]


def test_weights_of_another_project_are_refused(publish, tmp_path, capsys):
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "foreign.ckpt")
    with pytest.raises(SystemExit):
        publish(f"ckpt='{tmp_path / 'foreign.ckpt'}'")
    assert "is not a checkpoint of kdpose" in capsys.readouterr().err
