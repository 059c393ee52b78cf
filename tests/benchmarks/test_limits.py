import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.limits import convolution, product

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "run",
    [product(torch.float32, CPU, 1e9), convolution(CPU, 1e9)],
    ids=["product", "convolution"],
)
def test_units_are_what_torch_counts(run):
    with FlopCounterMode(display=False) as counter:
        units = run()

    assert units == pytest.approx(counter.get_total_flops() / 1e9)
