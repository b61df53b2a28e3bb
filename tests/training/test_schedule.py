"""Learning-rate schedules are torch's, as pure functions of the step."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from latentline.training.schedule import warmup_cosine, warmup_milestones, warmup_stable_decay

TOTAL, WARMUP, DECAY = 100, 10, 0.3
EPOCH = 10  # steps


def _factors(total: int = TOTAL, warmup: int = WARMUP, decay: float = DECAY) -> list[float]:
    return [warmup_stable_decay(step, total, warmup, decay) for step in range(total)]


def _rates(schedule, steps: int = TOTAL) -> list[float]:
    """Return the rates of torch's ``schedule(optimizer)`` with a learning rate of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = schedule(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _rise(optimizer, warmup: int) -> lr_scheduler.LinearLR:
    return lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)


def test_it_rises_stays_at_one_and_falls():
    factors = _factors()
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[10:70] == [1.0] * 60
    assert factors[70:] == pytest.approx([left / 31 for left in range(30, 0, -1)])


@given(st.integers(1, 300), st.integers(0, 400), st.floats(0, 0.99))
def test_every_rate_is_above_zero_and_at_most_the_full_rate(total, warmup, decay):
    assert all(0 < factor <= 1 for factor in _factors(total, warmup, decay))
    assert all(0 < warmup_cosine(step, total, warmup) <= 1 for step in range(total))


def test_the_last_step_is_a_small_one():
    assert 0 < _factors()[-1] < 0.05
    assert 0 < warmup_cosine(TOTAL - 1, TOTAL, WARMUP) < 0.001


def test_until_its_fall_a_longer_run_is_the_same_run():
    assert _factors(total=1000)[:70] == _factors()[:70]


def test_without_warmup_and_decay_the_rate_is_constant():
    assert _factors(warmup=0, decay=0.0) == [1.0] * TOTAL
    assert [warmup_milestones(step, EPOCH, 0, [], 0.2) for step in range(TOTAL)] == [1.0] * TOTAL


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0, 0.99))
def test_once_it_falls_it_never_rises_again(total, warmup, decay):
    for factors in (_factors(total, warmup, decay), [warmup_cosine(step, total, warmup) for step in range(total)]):
        top = factors.index(max(factors))
        assert factors[:top] == sorted(factors[:top])
        assert factors[top:] == sorted(factors[top:], reverse=True)


@pytest.mark.parametrize("warmup", [2, WARMUP, 69])
def test_stable_decay_is_torchs_linear_rise_then_its_linear_fall(warmup):
    steps = round(DECAY * TOTAL)

    def schedule(optimizer):
        fall = lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps + 1)
        return lr_scheduler.SequentialLR(optimizer, [_rise(optimizer, warmup), fall], milestones=[TOTAL - steps - 1])

    assert _factors(warmup=warmup) == pytest.approx(_rates(schedule))


@pytest.mark.parametrize("warmup", [2, WARMUP, TOTAL - 1])
def test_cosine_is_torchs_after_its_linear_rise(warmup):
    def schedule(optimizer):
        fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL - warmup)
        return lr_scheduler.SequentialLR(optimizer, [_rise(optimizer, warmup), fall], milestones=[warmup])

    assert [warmup_cosine(step, TOTAL, warmup) for step in range(TOTAL)] == pytest.approx(_rates(schedule))


def test_cosine_without_warmup_is_torchs_from_the_first_step():
    expected = _rates(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL))
    assert [warmup_cosine(step, TOTAL, 0) for step in range(TOTAL)] == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [2, EPOCH, 35])
@pytest.mark.parametrize("after", [[], [1], [3, 7], [2, 3, 4, 50]])
def test_milestones_are_torchs_counted_in_epochs_times_its_linear_rise(warmup, after):
    def schedule(optimizer):
        steps = lr_scheduler.MultiStepLR(optimizer, [epoch * EPOCH for epoch in after], gamma=0.2)
        return lr_scheduler.ChainedScheduler([_rise(optimizer, warmup), steps])

    assert [warmup_milestones(step, EPOCH, warmup, after, 0.2) for step in range(TOTAL)] == pytest.approx(
        _rates(schedule)
    )


def test_milestones_fall_at_once_between_two_epochs_whatever_the_length_of_the_run():
    factors = [warmup_milestones(step, EPOCH, 0, [2, 5], 0.5) for step in range(TOTAL)]
    falls = [step for step, (before, after) in enumerate(pairwise(factors), start=1) if after != before]
    assert falls == [2 * EPOCH, 5 * EPOCH]
    assert set(factors) == {1.0, 0.5, 0.25}
