"""What all tests share: one thread, the real data where it is, one tiny synthetic data set."""

import os
from pathlib import Path

import pytest
import torch

from kdpose.data.synthetic import generate

torch.set_num_threads(1)
REPOSITORY = Path(__file__).parents[1]


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
