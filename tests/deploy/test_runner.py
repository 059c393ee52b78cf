"""The runner beside an exported file, also where there is nothing but what it says it needs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image

from kdpose.data.transforms import box_region, crop_matrix, warp
from kdpose.deploy import runner
from kdpose.deploy.card import card
from kdpose.deploy.formats import save_onnx, save_openvino
from kdpose.metrics.rescoring import image_joints

pytestmark = pytest.mark.slow

BOXES = [[20.0, 30, 60, 70], [130, 50, 80, 110], [-20, -10, 90, 400]]
CARD = {"input_size": [48, 64], "padding": 1.25}
NEEDED = ("numpy", "numpy.libs", "PIL", "pillow.libs")
RUNTIME = {
    ".onnx": ("onnxruntime",),
    ".xml": ("openvino", "openvino_telemetry", "packaging"),
}


def picture(width=240, height=200):
    """A smooth colourful image."""
    rows, columns = np.mgrid[0:height, 0:width] / 40
    channels = [np.sin(columns), np.cos(rows + columns), np.sin(rows * 1.3)]
    return Image.fromarray((127 + 120 * np.stack(channels, -1)).astype(np.uint8))


def test_crops_are_those_that_kdpose_cuts():
    image, seen = picture(), []

    def network(crops):
        seen.append(crops)
        return np.zeros((len(crops), 5, 2), np.float32), np.zeros((len(crops), 5), np.float32)

    runner.poses(CARD, network, image, BOXES)
    (crops,) = seen
    assert crops.shape == (3, 3, 64, 48)
    assert crops.dtype == np.uint8
    for crop, box in zip(crops, np.array(BOXES, np.float32), strict=True):
        matrix = crop_matrix(*box_region(box, 48 / 64), (48, 64))
        ours = warp(np.asarray(image), matrix, (48, 64)).transpose(2, 0, 1).astype(int)
        inside = np.all((ours > 0) & (crop > 0), 0)  # the two fade differently at the border
        inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1]
        assert inside.mean() > 0.2
        difference = np.abs(crop.astype(int) - ours)[:, inside]
        assert difference.mean() < 1
        assert np.quantile(difference, 0.99) <= 6


def test_joints_come_back_in_image_pixels():
    found = np.random.default_rng(0).uniform(0, 48, (3, 14, 2)).astype(np.float32)

    def network(crops):
        return found, np.ones((3, 14), np.float32)

    joints, _ = runner.poses(CARD, network, picture(), BOXES)
    regions = [box_region(box, 48 / 64) for box in np.array(BOXES, np.float32)]
    centers, sizes = (np.stack(parts) for parts in zip(*regions, strict=True))
    np.testing.assert_allclose(joints, image_joints(found, centers, sizes, (48, 64)), atol=1e-3)


def test_it_is_short():
    assert len(Path(runner.__file__).read_text().splitlines()) <= 64


@pytest.fixture(scope="module")
def exported(graph, loaded, ckpt, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    says = card(loaded, ckpt, "fp32")
    save_onnx(graph[0], folder / "tiny.onnx", says)
    save_openvino(openvino.Core().read_model(folder / "tiny.onnx"), folder / "tiny.xml", says)
    (folder / "runner.py").write_text(Path(runner.__file__).read_text())
    picture().save(folder / "photo.png")
    return folder


def bare_site(folder, packages):
    """A folder of links to these installed packages and to nothing else."""
    site = Path(importlib.util.find_spec("numpy").origin).parents[1]
    folder.mkdir()
    for name in packages:
        if (site / name).exists():  # the .libs folders depend on the platform's wheels
            (folder / name).symlink_to(site / name)
    return folder


@pytest.mark.parametrize("suffix", RUNTIME)
def test_it_runs_where_there_is_no_torch(exported, tmp_path, suffix):
    site = bare_site(tmp_path / "site", (*NEEDED, *RUNTIME[suffix]))
    script = (
        f"import runpy, sys; sys.path.append({str(site)!r})\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "assert not {'torch', 'kdpose', 'cv2'} & sys.modules.keys()"
    )
    arguments = [f"tiny{suffix}", "photo.png", *(",".join(map(str, box)) for box in BOXES)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, "runner.py", *arguments],
        cwd=exported,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    says, network = runner.open_model(str(exported / f"tiny{suffix}"), 1)
    joints, scores = runner.poses(says, network, picture(), BOXES)
    np.testing.assert_allclose(found["joints"], joints, atol=2e-3)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)


def test_the_bare_site_has_no_torch(tmp_path):
    site = bare_site(tmp_path / "site", NEEDED)
    code = f"import sys; sys.path.append({str(site)!r}); import numpy, PIL; import torch"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in done.stderr


def test_a_process_that_runs_openvino_survives_signals(exported):
    """With a core per file, the next handled signal found a freed stack and ended the process."""
    code = f"""
import gc, signal, subprocess, sys
import numpy as np
from kdpose.deploy.runner import open_model
signal.signal(signal.SIGCHLD, lambda *_: None)
for _ in range(2):
    networks = [open_model({str(exported / "tiny.xml")!r}, 1)[1] for _ in range(3)]
    while networks:
        del networks[0]
        gc.collect()
subprocess.run([sys.executable, "-c", ""], capture_output=True, check=True)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
