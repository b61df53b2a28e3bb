import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentline.training.schedule import warmup_stable_decay

TOTAL, WARMUP, DECAY = 100, 10, 0.3


def _factors(total: int = TOTAL, warmup: int = WARMUP, decay: float = DECAY) -> list[float]:
    return [warmup_stable_decay(step, total, warmup, decay) for step in range(total)]


def test_it_rises_stays_at_one_and_falls():
    factors = _factors()
    assert factors[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    assert factors[10:70] == [1.0] * 60
    assert factors[70:] == pytest.approx([left / 31 for left in range(30, 0, -1)])


@given(st.integers(1, 300), st.integers(0, 400), st.floats(0, 0.99))
def test_every_step_learns_something_and_none_more_than_the_full_rate(total, warmup, decay):
    assert all(0 < factor <= 1 for factor in _factors(total, warmup, decay))


def test_the_last_step_is_a_small_one():
    assert 0 < _factors()[-1] < 0.05


def test_until_its_fall_a_longer_run_is_the_same_run():
    assert _factors(total=1000)[:70] == _factors()[:70]


def test_without_warmup_and_decay_the_rate_is_constant():
    assert _factors(warmup=0, decay=0.0) == [1.0] * TOTAL


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0, 0.99))
def test_once_it_falls_it_never_rises_again(total, warmup, decay):
    factors = _factors(total, warmup, decay)
    top = factors.index(max(factors))
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
