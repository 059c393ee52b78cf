"""One small refined network, its checkpoint and its graph, for all that is written from it."""

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from kdpose.checkpoints.load import load_net
from kdpose.deploy.crops import labelled_crops
from kdpose.skeletons.known import CROWDPOSE

SIZE = (48, 64)


STUDENT = {
    "_target_": "kdpose.pose_net.PoseNet",
    "backbone": {
        "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
        "name": "resnet10t",
        "neck_channels": 16,
        "model_args": {"channels": [16, 16, 16, 16], "stem_width": 8},
    },
    "head": {
        "_target_": "kdpose.heads.simcc.SimCCHead",
        "_partial_": True,
        "init": "projection",
    },
    "codec": {"_target_": "kdpose.codecs.simcc.SimCC", "input_size": list(SIZE)},
    "skeleton": {
        "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
        "values": CROWDPOSE.to_dict(),
    },
}
REFINER = {
    "_target_": "kdpose.refiners.igp_gcn.IGPGCN",
    "_partial_": True,
    "hidden": 16,
    "widths": [16, 16, 16],
}


def describe(splits, crowd):
    """What rebuilds the network, as a training run writes it."""
    files = splits(crowd)
    net = {"_target_": "kdpose.pose_net.RefinedPoseNet", "student": STUDENT, "refiner": REFINER}
    dataset = {"name": "synthetic", "protocol": "crowdpose", **files["val"]}
    dataset["train"] = files["train"]
    return {"net": net, "dataset": dataset, "experiment": "tiny", "seed": 0}


@pytest.fixture(scope="session")
def ckpt(crowd, splits, tmp_path_factory):
    """Checkpoint of a refined network that nobody trained, but whose maps depend on the crop."""
    torch.manual_seed(0)
    description = describe(splits, crowd)
    net = instantiate(description["net"], _convert_="all")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm starts some at 0
    with torch.no_grad():
        for layer in (net.student.head.mlp_head_x, net.student.head.mlp_head_y):
            layer.weight += 0.05 * torch.randn_like(layer.weight)  # or the last bins are equal
        net.student(torch.randint(0, 256, (16, 3, SIZE[1], SIZE[0]), dtype=torch.uint8))
    path = tmp_path_factory.mktemp("ckpt") / "tiny.ckpt"
    weights = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"kdpose": description, "state_dict": weights}, path)
    return path


@pytest.fixture(scope="session")
def loaded(ckpt):
    """The network as evaluation has it."""
    return load_net(ckpt)


@pytest.fixture(scope="session")
def program(loaded):
    """Its graph in torch."""
    from kdpose.deploy.graph import export_program

    return export_program(loaded.net)


@pytest.fixture(scope="session")
def graph(program):
    """Its graph in ONNX and the layer groups of the nodes."""
    from kdpose.deploy.graph import to_onnx

    return to_onnx(program)


@pytest.fixture(scope="session")
def crops():
    """Random crops ``(6, 3, H, W)``."""
    return torch.randint(
        0, 256, (6, 3, SIZE[1], SIZE[0]), dtype=torch.uint8, generator=torch.manual_seed(1)
    ).numpy()


@pytest.fixture(scope="session")
def expected(loaded, crops):
    """Joints and scores that the network itself finds."""
    with torch.no_grad():
        pose = loaded.net.pose(torch.from_numpy(crops))
    return pose.joints.numpy(), pose.scores.numpy()


@pytest.fixture(scope="session")
def everyone(crowd, loaded):
    """All persons of the crowds' test split, as crops of the network."""
    file = f"{crowd}/annotations/crowdpose_test.json"
    return labelled_crops(file, f"{crowd}/images", "crowdpose", loaded.net, 10_000, "gate")
