"""Persons a second of a student's files and of the networks of its pipeline, on the CPU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdpose.checkpoints.guest_net import LoadedGuest
from kdpose.checkpoints.load import Loaded
from kdpose.deploy import runner
from kdpose.deploy.export import torch_network
from kdpose.deploy.parity import Network
from kdpose.evaluation.timing import Case


def cases(
    models: Mapping[str, Loaded | LoadedGuest],
    files: Sequence[Path],
    batches: Sequence[int],
    threads: int,
) -> list[Case]:
    """Each network on crops of its own size; ratios are to the teacher at the same batch.

    Args:
        models: by name; a guest runs as it is, the others in PyTorch. The last is the student whose
            files are timed. Without a ``teacher`` there are no ratios.
        files: exported; each case is named after its file.
        batches: persons at once.
        threads: of the files' runtimes; torch has its own setting.
    """
    size = list(models.values())[-1].net.codec.input_size
    networks: Mapping[str, tuple[Network, tuple[int, int]]] = {
        **{
            _name(name, model): (torch_network(model), model.net.codec.input_size)
            for name, model in models.items()
        },
        **{file.name: (runner.open_model(str(file), threads)[1], size) for file in files},
    }
    first = _name("teacher", models["teacher"]) if "teacher" in models else None
    return [
        Case(
            f"{name}, batch {count}",
            partial(_once, network, _crops(count, *wanted)),
            None if first in (name, None) else f"{first}, batch {count}",
        )
        for count in batches
        for name, (network, wanted) in networks.items()
    ]


def _name(label: str, model: Loaded | LoadedGuest) -> str:
    return label if isinstance(model, LoadedGuest) else f"{label}, PyTorch"


def _crops(count: int, width: int, height: int) -> NDArray[np.uint8]:
    shape = (count, 3, height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _once(network: Network, crops: NDArray[np.uint8]) -> float:
    network(crops)
    return len(crops)
