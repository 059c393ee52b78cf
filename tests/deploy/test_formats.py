import json

import numpy as np
import openvino
import pytest

from kdpose.deploy.card import SUFFIX, card, files_of
from kdpose.deploy.formats import save_onnx, save_openvino, save_pt2
from kdpose.deploy.runner import open_model


@pytest.fixture(scope="module")
def written(graph, program, loaded, ckpt, tmp_path_factory):
    """The network in every format, by name."""
    folder = tmp_path_factory.mktemp("formats")
    paths = {form: folder / f"tiny{suffix}" for form, suffix in SUFFIX.items()}
    says = card(loaded, ckpt, "fp32", weights_license="CC-BY-4.0")
    save_onnx(graph[0], paths["onnx"], says)
    save_openvino(openvino.Core().read_model(paths["onnx"]), paths["openvino"], says)
    save_pt2(program, paths["pt2"], says)
    return paths


@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.slow
def test_every_format_computes_the_same_poses(written, crops, expected, form):
    _, network = open_model(str(written[form]), 1)
    for count in (1, 6):
        joints, scores = network(crops[:count])
        assert joints.dtype == scores.dtype == np.float32
        np.testing.assert_allclose(joints, expected[0][:count], atol=1e-3)
        np.testing.assert_allclose(scores, expected[1][:count], atol=1e-5)


@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.slow
def test_every_format_carries_its_card(written, loaded, form):
    says, _ = open_model(str(written[form]), 1)
    assert says["input_size"] == [48, 64]
    assert says["padding"] == 1.25
    assert says["split_ratio"] == 2.0
    assert says["skeleton"] == loaded.net.skeleton.to_dict()
    assert says["precision"] == "fp32"
    assert says["license"] == {"code": "Apache-2.0", "weights": "CC-BY-4.0"}
    origin = says["provenance"]
    assert (origin["experiment"], origin["dataset"]["name"]) == ("tiny", "synthetic")
    assert len(origin["checkpoint_sha256"]) == 64
    assert {"version", "commit", "torch"} <= origin["exported_by"].keys()
    assert "/annotations/" not in json.dumps(says)  # no path of the machine it was made on


def test_a_license_that_nobody_stated_is_said_to_be_unknown(loaded, ckpt):
    assert card(loaded, ckpt, "fp32")["license"]["weights"].startswith("not stated")


@pytest.mark.slow
def test_openvino_keeps_its_weights_in_a_second_file(written):
    assert [path.suffix for path in files_of(written["openvino"])] == [".xml", ".bin"]
    assert all(path.is_file() for path in files_of(written["openvino"]))
    assert files_of(written["onnx"]) == [written["onnx"]]
