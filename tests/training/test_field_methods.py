"""The field's methods end to end: each trains, is evaluated, predicts and is exported."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from kdpose.checkpoints.load import load_net
from kdpose.deploy.graph import export_program, to_onnx

TINY = (
    "backbone=mobilenetv4_tiny",
    "codec.input_size=[48,64]",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "doctor=false",
)
SMALL = ("head.patch=[3,4]", "head.dim=16", "head.depth=2", "head.heads=2")
LAYERS = ("head.encoder_layers=1", "head.decoder_layers=2")
HEATMAP, REGRESSION = "codec=heatmap", "codec=regression"
ALONE = {
    "rle": (REGRESSION, "head=regression", "loss=[rle]"),
    "queries": (REGRESSION, "head=queries", "loss=[rle]", *LAYERS, "head.dim=16", "head.heads=2"),
    "transpose": (HEATMAP, "head=transpose", "loss=[heatmap_mse]", "head.dim=16", "head.depth=2"),
    "tokenpose": (HEATMAP, "head=tokenpose", "loss=[heatmap_mse]", *SMALL),
    "sdpose": (HEATMAP, "head=sdpose", "loss=[sdpose]", *SMALL),
    "okdhp": (HEATMAP, "head=online_branches", "loss=[okdhp]", "head.blocks=1"),
    "heatmap": (HEATMAP, "head=heatmap", "loss=[heatmap_mse]"),
}
TAUGHT = {
    "distilpose": ("tokenpose", REGRESSION, "head=distilpose", "loss=[distilpose]", *SMALL),
    "fpd": ("heatmap", HEATMAP, "head=heatmap", "loss=[heatmap_mse,heatmap_teacher]"),
}


def losses(run):
    """Names of the terms that were logged."""
    (file,) = run.glob("csv/**/metrics.csv")
    head = file.read_text().splitlines()[0].split(",")
    return {name.removeprefix("train/loss_") for name in head if name.startswith("train/loss_")}


SAME_GRAPH = {"sdpose": "tokenpose", "fpd": "heatmap"}  # at inference


def holds(run, kdpose_here, crowd):
    """A run's checkpoint is rebuilt, evaluated to the stored AP, predicts, is exported to ONNX."""
    ckpt = run / "best.ckpt"
    stored = json.loads((run / "metrics.json").read_text())
    kdpose_here("evaluate", f"ckpt={ckpt}", f"out={run}/again.json", "device=cpu")
    again = json.loads((run / "again.json").read_text())
    assert again["AP"] == stored["AP"]
    photograph = sorted((crowd / "images").iterdir())[0]
    words = ("boxes=whole", "draw=false", f"out={run}/poses", "device=cpu")
    kdpose_here("predict", f"ckpt={ckpt}", f"source={photograph}", *words)
    (found,) = json.loads((run / "poses" / "predictions.json").read_text())
    assert len(found["keypoints"]) == 3 * 14
    net = load_net(ckpt).net.eval()
    assert not [n for n in torch.load(ckpt)["state_dict"] if not n.startswith("net.")]
    if run.name in SAME_GRAPH:
        return
    crops = torch.randint(0, 256, (3, 3, 64, 48), dtype=torch.uint8)
    with torch.no_grad():
        pose = net.pose(crops)
    model, _ = to_onnx(export_program(net))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    joints, scores = session.run(None, {"image": crops.numpy()})
    np.testing.assert_allclose(scores, pose.scores, atol=1e-4)
    assert (
        np.quantile(np.abs(joints - pose.joints.numpy()), 0.9) < 0.1
    )  # near-ties may be decided differently


@pytest.fixture(scope="module")
def alone(crowd, tmp_path_factory, kdpose_here):
    """Trains a network without a teacher once, and gives its run's folder."""
    runs = tmp_path_factory.mktemp("runs")

    def run(name):
        folder = runs / name
        if not folder.exists():
            where = (f"dataset.root={crowd}", f"runs={runs}", f"name={name}")
            kdpose_here("train", "+experiment=baseline", *where, *TINY, *ALONE[name])
        return folder

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_networks(name, alone, kdpose_here, crowd):
    holds(alone(name), kdpose_here, crowd)


@pytest.mark.slow
@pytest.mark.parametrize("name", TAUGHT)
def test_students(name, alone, kdpose_here, crowd):
    teacher, *options = TAUGHT[name]
    given = alone(teacher)
    kdpose_here(
        "train",
        "+experiment=stage1",
        f"teacher.ckpt={given}/best.ckpt",
        "teacher.force=true",
        f"dataset.root={crowd}",
        f"runs={given.parent}",
        f"name={name}",
        *TINY,
        *options,
    )
    holds(given.parent / name, kdpose_here, crowd)
    wanted = {"distilpose": 5, "fpd": 2}[name]
    assert len(losses(given.parent / name)) == wanted
