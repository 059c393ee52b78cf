"""A checkpoint passed on: half the size, the same poses, a card that says what it is."""

import sys

import pytest
import torch
from hydra import compose, initialize_config_dir

from kdpose.checkpoints import load_net
from kdpose.cli import CONF
from kdpose.evaluate import evaluate_net
from kdpose.keypoints import CROWDPOSE
from kdpose.publish import main
from kdpose.train import build_net, describe

WORDS = ("terms=research only", "limits=untrained")


@pytest.fixture(scope="module")
def ckpt(crowd, tmp_path_factory):
    """A run's checkpoint, of an untrained network, with what trained it left out."""
    tiny = ("backbone=mobilenetv4_tiny", "codec.input_size=[48,64]", f"dataset.root={crowd}")
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=["+experiment=synthetic_baseline", *tiny])
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
    assert dataset["annotations"] == f"{crowd.name}/annotations/crowdpose_test.json"
    assert dataset["train"]["images"] == f"{crowd.name}/images"


def test_the_card_says_what_evaluation_says(publish):
    folder = publish()
    card = (folder / "MODEL_CARD.md").read_text()
    measured = evaluate_net(load_net(folder / "student.ckpt"), device="cpu")
    row = next(line for line in card.splitlines() if line.startswith("| as published"))
    assert row.split("|")[2].strip() == f"{100 * measured['AP']:.1f}"
    for fact in ("research only", "untrained", "48x64 pixels", "mobilenetv4", "left_shoulder"):
        assert fact in card


def test_a_file_beyond_the_budget_is_no_student(publish, tmp_path, capsys):
    with pytest.raises(SystemExit):
        publish("budget=-0.5")
    assert "loses 0.00 AP in half precision, budget is -0.5" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["rejected.ckpt"]


def test_weights_of_another_project_are_refused(publish, tmp_path, capsys):
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "foreign.ckpt")
    with pytest.raises(SystemExit):
        publish(f"ckpt='{tmp_path / 'foreign.ckpt'}'")
    assert "is no checkpoint of kdpose" in capsys.readouterr().err
