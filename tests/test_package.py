"""What ``import kdpose`` offers, and what it costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kdpose


def test_dir_shows_every_public_name_and_each_can_be_had():
    assert set(kdpose.__all__) <= set(dir(kdpose))
    for name in kdpose.__all__:
        value = getattr(kdpose, name)
        assert isinstance(value, str) if name == "__version__" else value.__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kdpose.nothing  # noqa: B018 raises


def test_importing_it_imports_no_other_package():
    seen = "import sys, kdpose; print([n for n in ('torch', 'numpy', 'hydra') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", seen], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


BUNDLED = Path(kdpose.__file__).parent / "inference/bundled/movenet_multipose.onnx"
RUNNER = Path(kdpose.__file__).parent / "deploy/runner.py"
OPENS = {
    "kdpose": "import sys, kdpose.inference.multipose as m; m.MultiPoseDetector()",
    "runner": (
        "import contextlib, runpy, sys; made = runpy.run_path(sys.argv[2])\n"
        "with contextlib.suppress(KeyError):\n    made['open_model'](sys.argv[1])"  # it has no card
    ),
}


@pytest.mark.parametrize("who", OPENS)
def test_onnxruntime_reports_nothing_and_leaves_no_file(tmp_path, who):
    """Its telemetry keeps a session number in the temporary folder."""
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    env |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(kdpose.__file__).parents[1])}
    words = [sys.executable, "-c", OPENS[who], str(BUNDLED), str(RUNNER)]
    subprocess.run(words, check=True, env=env)
    assert list(tmp_path.iterdir()) == []
