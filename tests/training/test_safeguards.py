"""What ends a training that would go wrong: losses that are no numbers, unused parameters."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kdpose.training.safeguards import FiniteLosses, UsedParameters, _Step

IMAGES = torch.arange(9)


def parts(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


class Event:
    """A copy that arrives on command."""

    def __init__(self):
        self.there = self.waited = False

    def query(self):
        return self.there

    def synchronize(self):
        self.waited = True


def test_finite_losses_pass():
    check = FiniteLosses()
    for step in range(3):
        check.add(parts(kl=1.0, pos=0.0), f"step {step}", IMAGES)
        assert not check._waiting  # looked at, and let go
    check.add(parts(kl=1e38, pos=-1e38), "step 3", IMAGES)  # large is finite
    assert not check._waiting


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_terms_the_step_and_the_images_are_named_at_once(bad):
    check = FiniteLosses()
    check.add(parts(kl=1.0, pos=2.0), "epoch 0, step 6", IMAGES)
    says = r"loss \['pos'\] is not finite in epoch 0, step 7, images \[0, 1, 2, 3, 4\]"
    with pytest.raises(ValueError, match=says) as error:
        check.add(parts(kl=1.0, pos=bad), "epoch 0, step 7", IMAGES)
    assert "\n" not in str(error.value)


def test_on_a_device_nothing_is_waited_for_until_the_epoch_ends():
    """The same with events in place of a GPU's."""
    check = FiniteLosses()
    check.add(parts(kl=1.0), "step 0", IMAGES)
    first, second = Event(), Event()
    for event, ok, where in ((first, True, "step 1"), (second, False, "step 2")):
        check._waiting.append(_Step(torch.tensor([ok]), event, ("kl",), where, IMAGES))
    check.look()
    assert (len(check._waiting), first.waited) == (2, False)
    first.there = True
    check.look()
    assert len(check._waiting) == 1
    with pytest.raises(ValueError, match="not finite in step 2"):
        check.look(wait=True)
    assert second.waited


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    check = FiniteLosses()
    check.add({"kl": torch.tensor(0.0, device="cuda")}, "step 0", IMAGES)
    check._waiting.clear()
    bad = {"kl": torch.tensor(float("nan"), device="cuda")}

    def twice():
        check.add(bad, "step 1", IMAGES)
        check.look(wait=True)

    with pytest.raises(ValueError, match="not finite in step 1"):
        twice()


@pytest.mark.parametrize("finds", [False, True])
def test_parameters_without_gradient_are_named_to_several_devices(finds):
    parallel = DistributedDataParallel.__new__(DistributedDataParallel)
    nn.Module.__init__(parallel)
    parallel.find_unused_parameters = finds
    trainer = SimpleNamespace(strategy=SimpleNamespace(model=parallel))
    module = L.LightningModule()
    module.used, module.forgotten = nn.Linear(1, 1), nn.Linear(1, 1)
    module.used(torch.ones(1, 1)).sum().backward()
    guard = UsedParameters({"kl": None})
    if finds:
        guard.on_after_backward(trainer, module)
        return
    with pytest.raises(ValueError, match=r"2 of 4 parameters, \['forgotten.weight', 'forgo.*'kl'"):
        guard.on_after_backward(trainer, module)
    del module.forgotten
    guard.on_after_backward(trainer, module)
