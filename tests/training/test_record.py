"""What a run says of itself when it ends: which split chose its checkpoint, and its AP there."""

import json

import pytest
from hydra import compose, initialize_config_dir

from kdpose.cli import CONF
from kdpose.training.record import objective
from kdpose.training.stage import train


def test_settings_are_compared_on_held_out_images_where_there_are_any():
    chosen = {"split": "train_tune", "held_out": True, "AP": 0.3}
    assert objective({"AP": 0.5, "training": {"chosen": chosen}}) == 0.3
    assert objective({"AP": 0.5, "training": {"chosen": {**chosen, "held_out": False}}}) == 0.5
    assert objective({"AP": 0.5}) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["null", "0.25"])
def test_a_run_says_which_split_chose_its_checkpoint(tmp_path, crowd, capsys, tune):
    words = [
        "+experiment=baseline", "dataset=synthetic", "dataset.prepare=null", "trainer=cpu",
        "backbone=mobilenetv4_tiny", "head.init=projection", "codec.input_size=[48,64]",
        "data.batch_size=8", "data.num_workers=0", "trainer.max_epochs=1", "doctor=false",
        "~callbacks.pictures", "~callbacks.progress", f"dataset.root={crowd}",
        f"dataset.tune={tune}", f"runs={tmp_path}",
    ]  # fmt: skip
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", overrides=words)
    train(cfg)

    metrics = json.loads((tmp_path / cfg.name / "metrics.json").read_text())
    chosen = metrics["training"]["chosen"]
    assert metrics["split"] == "crowdpose_test"  # what reports is the same
    said = " ".join(capsys.readouterr().out.split())
    if tune == "null":
        assert chosen["split"] == metrics["split"]
        assert "chosen on crowdpose_test, which also reports its AP: dataset.tune=0.1" in said
    else:
        (part,) = (tmp_path / "splits").glob("*.json")
        assert chosen["split"] == part.stem
        assert "held-out training images" in said
