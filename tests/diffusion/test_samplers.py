"""Samplers against an ODE whose solution is known: data of one Gaussian."""

import pytest
import torch

from latentline.common.seeds import generator
from latentline.diffusion.path import flow_path
from latentline.diffusion.prediction import from_velocity
from latentline.diffusion.samplers import euler, heun
from latentline.diffusion.samplers.registry import get_sampler
from latentline.diffusion.time_grid import time_grid

MEAN, DEVIATION = 1.5, 0.4
NAMES = ["euler", "heun"]


def _marginal(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of z_t = (1 - t) x0 + t noise for x0 ~ N(MEAN, DEVIATION^2)."""
    return (1 - t) * MEAN, ((1 - t) * DEVIATION) ** 2 + t**2


def _velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[noise - x0 | z_t = z], by the rule for conditional means of jointly Gaussian variables."""
    mean, variance = _marginal(t)
    return -MEAN + (t - (1 - t) * DEVIATION**2) / variance * (z - mean)


def _noise(count: int = 200) -> torch.Tensor:
    return torch.randn(count, dtype=torch.float64, generator=generator(0, count))


def _error(name: str, steps: int) -> float:
    """Largest distance to the exact flow map: (z - mean) / deviation is constant along it, so noise n lands at MEAN + DEVIATION n."""
    noise = _noise()
    return (get_sampler(name)[0](_velocity, noise, time_grid(steps)) - (MEAN + DEVIATION * noise)).abs().max().item()


def test_the_velocity_of_these_tests_is_the_average_over_data_and_noise_that_meet_there():
    x0, noise = MEAN + DEVIATION * _noise(2_000_000), _noise(2_000_001)[1:]
    for t in (0.2, 0.7):
        z_t = (1 - t) * x0 + t * noise
        near = (z_t - 0.8).abs() < 0.02
        measured = (noise - x0)[near].mean()
        torch.testing.assert_close(
            measured, _velocity(torch.tensor(0.8, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)), atol=0.03, rtol=0
        )


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_transported_to_the_data(name):
    noise = _noise(20_000)
    z0 = get_sampler(name)[0](_velocity, noise, time_grid(64))
    assert abs(z0.mean().item() - MEAN) < 0.03
    assert abs(z0.std().item() - DEVIATION) < 0.03


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
def test_doubling_the_steps_divides_the_error_by_two_to_the_order(name, order):
    for steps in (32, 64):
        assert 0.85 * 2**order < _error(name, steps) / _error(name, 2 * steps) < 1.15 * 2**order


def test_heun_is_closer_than_euler_at_the_same_number_of_evaluations():
    assert _error("heun", 16) < _error("euler", 32) / 2


@pytest.mark.parametrize(("name", "tolerance"), [("euler", 0.05), ("heun", 1e-4)])
def test_the_reversed_grid_inverts(name, tolerance):
    sampler, times = get_sampler(name)[0], time_grid(400)
    noise = _noise()
    torch.testing.assert_close(sampler(_velocity, sampler(_velocity, noise, times), times.flip(0)), noise, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_velocity_is_followed_exactly_on_any_grid(name):
    z, target = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    for times in (time_grid(1), time_grid(5, shift=3.0), torch.tensor([1.0, 0.9, 0.1, 0.0])):
        torch.testing.assert_close(get_sampler(name)[0](lambda z_t, t: z - target, z, times), target, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "module"), [("euler", euler), ("heun", heun)])
def test_a_sampler_calls_the_network_as_often_as_it_says_and_only_at_times_of_the_grid(name, module):
    sampler, per_step = get_sampler(name)
    called = []

    def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.shape == (len(z),)
        called.append(t[0].item())
        return torch.zeros_like(z)

    sampler(velocity, torch.randn(3, 2), time_grid(5))
    assert len(called) == 5 * per_step == 5 * module.EVALUATIONS_PER_STEP
    assert set(called) <= set(time_grid(5).tolist())


@pytest.mark.parametrize("name", NAMES)
def test_on_step_sees_every_state_from_the_start_to_the_result(name):
    seen = []
    noise = _noise(3)
    result = get_sampler(name)[0](_velocity, noise, time_grid(4), lambda t, z: seen.append((t, z)))
    assert [t for t, _ in seen] == time_grid(4).tolist()
    assert torch.equal(seen[0][1], noise)
    assert torch.equal(seen[-1][1], result)


@pytest.mark.parametrize("name", NAMES)
def test_a_sampler_leaves_its_input_alone_and_gives_the_same_twice(name):
    noise = _noise(5)
    kept = noise.clone()
    first, second = (get_sampler(name)[0](_velocity, noise, time_grid(3)) for _ in range(2))
    assert torch.equal(noise, kept)
    assert torch.equal(first, second)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_steps_as_diffusers_does(shift):
    from diffusers import FlowMatchEulerDiscreteScheduler

    steps = 6
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    torch.testing.assert_close(time_grid(steps, shift), scheduler.sigmas)

    def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.sin(3 * z) + t[:, None]

    z = start = torch.randn(4, 3)
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        z = scheduler.step(velocity(z, sigma.expand(4)), timestep, z).prev_sample
    torch.testing.assert_close(euler.euler(velocity, start, time_grid(steps, shift)), z)


def test_the_score_of_the_exact_velocity_is_the_gradient_of_the_log_density():
    z, t = _noise(), torch.rand(200, dtype=torch.float64) * 0.9 + 0.05
    mean, variance = _marginal(t)
    torch.testing.assert_close(from_velocity(z, _velocity(z, t), flow_path(t)).score, -(z - mean) / variance)
