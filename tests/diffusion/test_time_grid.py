import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.diffusion.time_grid import time_grid


@given(st.integers(1, 200), st.floats(0.1, 20))
def test_a_grid_falls_strictly_from_1_to_exactly_0(steps, shift):
    grid = time_grid(steps, shift)
    assert grid.shape == (steps + 1,)
    assert abs(grid[0] - 1) < 1e-6
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()


def test_without_shift_the_steps_are_equal():
    assert time_grid(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize(("shift", "nearer"), [(3.0, "noise"), (1 / 3, "data")])
def test_a_shift_above_1_moves_steps_towards_noise_and_one_below_towards_data(shift, nearer):
    inner = time_grid(10, shift)[1:-1]
    assert ((inner > time_grid(10)[1:-1]) == (nearer == "noise")).all()


def test_shifting_by_a_and_then_by_its_inverse_is_no_shift():
    t = time_grid(10, 4.0)
    torch.testing.assert_close(0.25 * t / (1 + (0.25 - 1) * t), time_grid(10), atol=1e-6, rtol=1e-6)


def test_a_grid_begins_at_exactly_1_for_any_shift():
    assert all(time_grid(steps, shift)[0] == 1 for steps in (1, 7) for shift in (0.1, 0.3, 1.7, 3.0))
