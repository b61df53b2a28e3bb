"""Every time grid falls strictly from exactly 1 to exactly 0, and equals the grid of its paper or of diffusers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.errors import UserError
from latentline.diffusion.process import PATHS
from latentline.diffusion.time_grid import TIME_GRIDS, build_time_grid, discrete_grid, karras_grid, time_grid


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


@pytest.mark.parametrize("kind", TIME_GRIDS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50, 1000])
def test_every_grid_falls_strictly_from_exactly_1_to_exactly_0(kind, path, steps):
    grid = build_time_grid(kind, steps, PATHS[path], 3.0)
    assert grid.shape == (steps + 1,)
    assert grid[0] == 1
    assert grid[-1] == 0
    assert (grid.diff() < 0).all()


def test_each_name_builds_its_grid():
    path = PATHS["vp_linear"]
    assert torch.equal(build_time_grid("uniform", 8, path, 3.0), time_grid(8))
    assert torch.equal(build_time_grid("shifted", 8, path, 3.0), time_grid(8, 3.0))
    assert torch.equal(build_time_grid("karras", 8, path, 3.0), karras_grid(8, path))
    assert torch.equal(build_time_grid("discrete", 7, path, 3.0), discrete_grid(7))
    with pytest.raises(ValueError, match="cubic"):
        build_time_grid("cubic", 8, path, 3.0)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 50, 600, 1000])
def test_the_discrete_grid_is_diffusers_trailing_one(steps):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert torch.equal((discrete_grid(steps)[:-1] * 1000).round().long() - 1, scheduler.timesteps)


def test_more_steps_than_there_are_discrete_ones_are_refused():
    with pytest.raises(
        UserError, match=r"^steps \(1001\) must be at most 1000 on the discrete time grid; lower it, or "
    ):
        discrete_grid(1001)


def test_the_karras_grid_has_diffusers_noise_levels():
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    point = PATHS["vp_linear"](karras_grid(12, PATHS["vp_linear"]))
    torch.testing.assert_close((point.sigma / point.alpha).float(), scheduler.sigmas, rtol=1e-4, atol=0)


def test_the_karras_grid_of_the_straight_path_has_even_seventh_roots_of_the_noise_ratio():
    grid = karras_grid(20, PATHS["flow"])
    assert abs(grid[-2].item() - 0.001) < 1e-9
    ratio = grid[1:-1] / (1 - grid[1:-1])
    torch.testing.assert_close((ratio ** (1 / 7)).diff(), (ratio ** (1 / 7)).diff()[:1].expand(18))
