import pytest
import torch

from kdpose.runtime.devices import pick_device


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    assert pick_device("auto").type == wanted


@pytest.mark.parametrize("name", ["abc", "cuda:x"])
def test_what_is_no_device(name):
    with pytest.raises(ValueError, match=f"device={name} is refused: expected auto"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:7", 0])
def test_a_gpu_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device={name} is not there: this machine has 0 CUDA"):
        pick_device(name)
