"""What a traced run tells of a device."""

from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from benchmarks.device import device_use, lines, traced

KERNELS = [
    ("sm90_xmma_fprop_implicit_gemm", 0.0, 400.0),
    ("triton_poi_fused_add_relu_3", 300.0, 500.0),  # beside the first
    ("Memcpy DtoD", 900.0, 1000.0),
]


def test_a_units_share_of_the_device():
    use = device_use(KERNELS, launches=6, units=2)
    assert (use.launches, use.kernels) == (3, 1.5)
    assert use.arithmetic == pytest.approx(0.2)
    assert use.memory == pytest.approx(0.15)
    assert use.idle == pytest.approx(0.2)
    assert use.busy == pytest.approx(0.6)
    assert device_use([], 3, 1) is None
    assert lines({"plain": use})[1] == ["plain", "3", "1.5", "0.2000", "0.1500", "0.2000", "60 %"]


def test_events_are_told_apart():
    def event(name, begin, end, device):
        return SimpleNamespace(
            name=name, time_range=SimpleNamespace(start=begin, end=end), device_type=device
        )

    events = [event(*kernel, DeviceType.CUDA) for kernel in KERNELS]
    names = ("cudaLaunchKernel", "cudaGraphLaunch", "cuLaunchKernelEx", "cudaMemcpyAsync")
    events += [event(name, 0, 1, DeviceType.CPU) for name in (*names, "aten::add", "cudaMalloc")]
    use = traced(events, 1)
    assert (use.launches, use.kernels) == (4, 3)
