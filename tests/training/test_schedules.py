import math

import pytest
import torch

from kdpose.training.schedules import multi_step, warmup_cosine


def rates(build, steps, lr=2.0, **options):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule = build(optimizer, total_steps=steps, **options)
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_multi_step_drops_at_the_first_step_of_each_milestone_epoch():
    seen = rates(multi_step, 12, steps_per_epoch=2, milestones=(2, 5), factor=0.1)
    assert seen == pytest.approx([2.0] * 4 + [0.2] * 6 + [0.02] * 3)


def test_multi_step_defaults_are_simccs():
    seen = rates(multi_step, 210, lr=1e-3, steps_per_epoch=1)
    assert [seen[epoch] for epoch in (0, 169, 170, 199, 200, 209)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    )


def test_warmup_cosine_by_hand():
    seen = rates(warmup_cosine, 10, steps_per_epoch=5, warmup=0.2, floor=0.5)
    assert seen[:3] == pytest.approx([1.0, 1.5, 2.0])  # floor, half way, peak
    assert seen[6] == pytest.approx(1.5)  # the middle of the cosine
    assert seen[10] == pytest.approx(1.0)
    for step in range(2, 11):
        angle = math.pi * (step - 2) / 8
        assert seen[step] == pytest.approx(1.0 + 0.5 * (1 + math.cos(angle)))


def test_warmup_cosine_stays_at_the_floor_beyond_the_end():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = warmup_cosine(optimizer, total_steps=5, steps_per_epoch=5, floor=0.1)
    (rate,) = schedule.lr_lambdas
    assert [rate(step) for step in (5, 6, 100)] == pytest.approx([0.1] * 3)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_warmup_cosine_of_very_short_runs(steps):
    seen = rates(warmup_cosine, steps, steps_per_epoch=1)
    assert all(0.02 - 1e-9 <= rate <= 2.0 for rate in seen)
    assert seen[0] == pytest.approx(0.02)
    assert seen[1] == pytest.approx(2.0)
