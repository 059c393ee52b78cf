"""Published networks and codecs by the real commands: train, evaluate, predict, export."""

import json

import pytest
import torch

from kdpose.checkpoints.load import load_net

COMMON = (
    "+experiment=baseline",
    "dataset=synthetic",
    "dataset.prepare=null",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "optimizer.lr=0.003",
    "logger=null",
    "doctor=false",
    "~callbacks.pictures",
    "~callbacks.progress",
)
NARROW = "backbone.model_args={channels:[16,16,24,32],stem_width:8}"
RESNET = (
    "backbone=resnet10_narrow",
    "backbone.neck_channels=16",
    NARROW,
    "codec.input_size=[48,64]",
)
MSE = "loss=[heatmap_mse]"
METHODS = {
    "dark": (*RESNET, "head=heatmap", "codec=dark", MSE),
    "udp": (*RESNET, "head=heatmap", "codec=udp", MSE),
    "udp_offsets": (*RESNET, "head=offset_maps", "codec=udp_offsets", "loss=[offset_mse]"),
    "simcc_onehot": (*RESNET, "head.init=projection", "codec=simcc_onehot"),
    "simple_baseline": (
        "backbone=resnet50",
        "backbone.name=resnet10t",
        "+backbone.model_args.channels=[16,16,24,32]",
        "+backbone.model_args.stem_width=8",
        "head=deconvolutions",
        "head.channels=16",
        "codec=heatmap",
        "codec.input_size=[64,64]",
        MSE,
    ),
    "vitpose": (
        "backbone=vit_small",
        "+backbone.model_args.embed_dim=48",
        "+backbone.model_args.depth=2",
        "+backbone.model_args.num_heads=3",
        "head=vitpose",
        "module.layer_decay=0.75",
        "head.channels=16",
        "codec=udp",
        "codec.input_size=[48,64]",
        MSE,
    ),
    "hourglass": (
        "backbone=hourglass",
        "backbone.channels=16",
        "backbone.stem=8",
        "backbone.maps=14",
        "head=heatmap",
        "codec=heatmap",
        "codec.input_size=[48,64]",
        "loss=[hourglass]",
    ),
}


def serve(kdpose_here, ckpt, out, crowd):
    """Score a checkpoint, predict by it and export it; the report of the export."""
    kdpose_here("evaluate", f"ckpt={ckpt}", f"out={out}/eval.json", "flip=true", "num_workers=0")
    assert (out / "eval.json").is_file()
    source = f"source={sorted((crowd / 'images').iterdir())[0]}"
    kdpose_here("predict", f"ckpt={ckpt}", f"out={out}/poses", source, "boxes=whole")
    persons = json.loads((out / "poses" / "predictions.json").read_text())
    assert all(abs(value) < 1000 for value in persons[0]["keypoints"])
    kdpose_here(
        "export",
        f"ckpt={ckpt}",
        f"out={out}",
        "gate.persons=12",
        "latency.rounds=1",
        "latency.batch=[1]",
    )
    (report,) = (json.loads(path.read_text()) for path in out.glob("*_fp32.json"))
    return report


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_method_from_training_to_its_file(method, kdpose_here, crowd, tmp_path):
    where = (f"dataset.root={crowd}", f"runs={tmp_path}", f"name={method}")
    kdpose_here("train", *COMMON, *METHODS[method], *where)
    ckpt = tmp_path / method / "best.ckpt"
    net = load_net(str(ckpt)).net
    width, height = net.codec.input_size
    with torch.no_grad():
        assert net.pose(torch.zeros(1, 3, height, width)).joints.isfinite().all()
    report = serve(kdpose_here, ckpt, tmp_path / "served", crowd)
    assert report["passed"] is True
    assert report["max_px"] < 0.05


@pytest.mark.slow
def test_opec_net_from_training_to_its_file(kdpose_here, crowd, tmp_path, tiny_checkpoints):
    where = (f"dataset.root={crowd}", f"runs={tmp_path}", "name=opec")
    kdpose_here(
        "train",
        *COMMON,
        *where,
        "refiner=opec_net",
        "refiner.hidden=16",
        "refiner.widths=[16,16,16]",
        "module=refine",
        "loss=[opec]",
        f"stage1_ckpt={tiny_checkpoints['student']}",
    )
    report = serve(kdpose_here, tmp_path / "opec" / "best.ckpt", tmp_path / "served", crowd)
    assert report["passed"] is True
