"""What all tests share: one thread, the real data where it is, one tiny synthetic data set."""

import importlib
import io
import logging
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

# OpenVINO 2026.4's int8 kernels for AMX crash on maps as small as a tiny student's; read at import
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from kdpose.data.datamodule import CocoKeypointDataModule
from kdpose.data.synthetic.crowds import generate
from kdpose.metrics.pose_results import PoseResults
from kdpose.skeletons.known import CROWDPOSE

torch.set_num_threads(1)
REPOSITORY = Path(__file__).parents[1]
_SECRET = "a-value-of-the-environment"  # which no file may make kdpose print


def pytest_collection_modifyitems(items):
    """Put files with slow tests first, so that several workers end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def real_data():
    """Folder of the real photographs and annotations."""
    root = Path(os.environ.get("KDPOSE_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root.absolute()}; KDPOSE_REAL_DATA names another folder")
    return root


@pytest.fixture(scope="session")
def crowd(tmp_path_factory):
    """Root of a synthetic data set in CrowdPose's layout: 12 training, 6 test images."""
    root = tmp_path_factory.mktemp("crowd") / "data"
    generate(root, train=12, val=6, seed=3, workers=1, image_size=(160, 120))
    return root


def _splits(root, train="crowdpose_trainval.json", val="crowdpose_test.json", images="images"):
    return {
        name: {"annotations": str(root / "annotations" / file), "images": str(root / images)}
        for name, file in (("train", train), ("val", val))
    }


def _make_data(root, **options):
    values = {
        **_splits(root),
        "skeleton": CROWDPOSE,
        "protocol": "crowdpose",
        "input_size": (48, 64),
        "batch_size": 4,
        "num_workers": 0,
    }
    return CocoKeypointDataModule(**{**values, **options})


def _ready_data(root, **options):
    data = _make_data(root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def _label_poses(data, batches):
    results = PoseResults(data.input_size)
    for b in batches:
        results.update(
            b.image_id, b.person, b.joints, b.visible.clamp(0.1, 1), b.box_score, b.center, b.size
        )
    return results.compute()


@pytest.fixture(scope="session")
def splits():
    """Gives the files of a data set in CrowdPose's layout, by split."""
    return _splits


@pytest.fixture(scope="session")
def make_data():
    """Makes the data module of a folder in CrowdPose's layout, with crops of 48 x 64."""
    return _make_data


@pytest.fixture(scope="session")
def ready_data():
    """Makes the same and sets it up."""
    return _ready_data


@pytest.fixture(scope="session")
def label_poses():
    """Gives the labels of a data module's batches, as a network would predict them."""
    return _label_poses


@pytest.fixture(scope="session")
def kdpose_here():
    """Runs ``kdpose NAME`` in this process, and gives what it said as a process would."""

    def run(name, *overrides, check=True):
        words, code = [f"kdpose.{name}", *map(str, overrides)], 0
        out, errors = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
            patch.setattr(sys, "argv", words)
            patch.setenv("COLUMNS", "140")
            try:
                importlib.import_module(words[0]).main()
            except SystemExit as ended:
                code = ended.code or 0
        done = CompletedProcess(words, code, out.getvalue(), errors.getvalue())
        assert not (check and code), done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def tiny_student():
    """What a checkpoint says of a small student."""
    return {
        "_target_": "kdpose.pose_net.PoseNet",
        "backbone": {
            "_target_": "kdpose.backbones.timm_pyramid.TimmPyramid",
            "name": "mobilenetv4_conv_small_050",
            "neck_channels": 16,
        },
        "head": {"_target_": "kdpose.heads.simcc.SimCCHead", "_partial_": True},
        "codec": {"_target_": "kdpose.codecs.simcc.SimCC", "input_size": [48, 64]},
        "skeleton": {
            "_target_": "kdpose.skeletons.skeleton.Skeleton.from_dict",
            "values": CROWDPOSE.to_dict(),
        },
    }


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory, tiny_student):
    """Files of a small untrained ``student`` and of one with a refiner, ``refined``."""
    student = tiny_student
    refiner = {"_target_": "kdpose.refiners.igp_gcn.IGPGCN", "_partial_": True}
    refined = {
        "_target_": "kdpose.pose_net.RefinedPoseNet",
        "student": student,
        "refiner": refiner,
    }
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = {}
    for name, described in {"student": student, "refined": refined}.items():
        torch.manual_seed(0)
        net = instantiate(described, _convert_="all").eval()
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        weights = {f"net.{key}": value for key, value in net.state_dict().items()}
        described = {"net": described, "dataset": {}, "experiment": name, "versions": {}}
        paths[name] = folder / f"{name}.ckpt"
        torch.save({"kdpose": described, "state_dict": weights}, paths[name])
    return paths


@pytest.fixture
def canary(monkeypatch, tmp_path, capfd):
    """The file that an attack would write; it must never exist, and no secret be printed."""
    monkeypatch.setenv("KDPOSE_CANARY", _SECRET)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = tmp_path / "canary"
    yield path
    assert not path.exists()
    assert _SECRET not in "".join(capfd.readouterr())


class _Touch:
    """A pickle that writes."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="session")
def touch():
    """Makes a pickle that writes a file."""
    return _Touch


def _refused(path, read, *arguments):
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 800
    assert _SECRET not in line
    return line


@pytest.fixture(scope="session")
def refused():
    """Reads what is refused in one line that names the file, and gives the line."""
    return _refused


@pytest.fixture(autouse=True)
def heard(caplog):
    """Every test hears warnings: some exporters leave the root logger's handlers deaf to them."""
    caplog.handler.setLevel(logging.NOTSET)
    absl = sys.modules.get("absl.logging")  # TensorBoard's: Hydra closes its handler, and that
    if absl is not None:  # closes the standard error of whichever test imported it
        absl.get_absl_handler().python_handler.stream = sys.__stderr__
