import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from benchmarks.runtimes import exported

for extra in ("onnxruntime", "openvino", "nncf"):
    pytest.importorskip(extra, reason="the extra kdpose[export] is not installed")


@pytest.mark.slow
def test_files_are_the_student(tiny_student, tmp_path):
    torch.manual_seed(0)
    net = instantiate(tiny_student, _convert_="all").eval()
    nn.init.normal_(net.head.final_layer.weight)
    crops = np.random.default_rng(1).integers(0, 256, (3, 3, 64, 48), np.uint8)
    with torch.no_grad():
        pose = net.pose(torch.from_numpy(crops))
    files = dict(exported(net, ["onnxruntime", "openvino"], tmp_path, 1, calibration=4))
    assert list(files) == [
        "onnxruntime fp32", "onnxruntime int8", "openvino fp32", "openvino int8",
    ]  # fmt: skip
    for name, run in files.items():
        joints, scores = run(crops)
        assert joints.shape == pose.joints.shape
        if name.endswith("fp32"):
            np.testing.assert_allclose(scores, pose.scores, rtol=1e-3, atol=1e-5)
        else:  # integers differ, and are no other network
            assert 0 < np.abs(scores - pose.scores.numpy()).max() < 0.5 * pose.scores.max()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["onnxruntime_int8.onnx"] < sizes["onnxruntime_fp32.onnx"] / 2
    assert sizes["openvino_int8.bin"] < sizes["openvino_fp32.bin"] / 2


def test_none_and_unknown_ones(tiny_student, tmp_path):
    assert list(exported(None, [], tmp_path, 1)) == []
    with pytest.raises(ValueError, match=r"what\.cases\.runtimes must be of .* got \['x'\]"):
        list(exported(None, ["x"], tmp_path, 1))
