"""Persons a second of a student's files, of the student and of its teacher, on the CPU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdpose.checkpoints.load import Loaded
from kdpose.deploy import runner
from kdpose.deploy.export import torch_network
from kdpose.deploy.parity import Network
from kdpose.evaluation.timing import Case


def cases(
    teacher: Loaded, student: Loaded, files: Sequence[Path], batches: Sequence[int], threads: int
) -> list[Case]:
    """Each network on crops of its own size; ratios are to the teacher at the same batch.

    Args:
        teacher: in PyTorch.
        student: in PyTorch.
        files: exported; each case is named after its file.
        batches: persons at once.
        threads: of the files' runtimes; torch has its own setting.
    """
    first = "teacher, PyTorch"
    size = student.net.codec.input_size
    networks: Mapping[str, tuple[Network, tuple[int, int]]] = {
        first: (torch_network(teacher), teacher.net.codec.input_size),
        "student, PyTorch": (torch_network(student), size),
        **{file.name: (runner.open_model(str(file), threads)[1], size) for file in files},
    }
    return [
        Case(
            f"{name}, batch {count}",
            partial(_once, network, _crops(count, *wanted)),
            None if name == first else f"{first}, batch {count}",
        )
        for count in batches
        for name, (network, wanted) in networks.items()
    ]


def _crops(count: int, width: int, height: int) -> NDArray[np.uint8]:
    shape = (count, 3, height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _once(network: Network, crops: NDArray[np.uint8]) -> float:
    network(crops)
    return len(crops)
