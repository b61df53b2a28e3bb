"""The convention: t = 0 is data, t = 1 is noise, velocity is dz/dt; and the literature's schedules on that axis."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.diffusion.path import add_noise, add_noise_at, flow_path, increments, velocity
from latentline.diffusion.process import PATHS
from latentline.diffusion.vp import DISCRETE_STEPS, cosine_betas, linear_betas

paths = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
vp_paths = pytest.mark.parametrize(
    ("path", "schedule"), [(PATHS["vp_linear"], "linear"), (PATHS["vp_cosine"], "squaredcos_cap_v2")]
)


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.randn(3, 2, 4, 5, dtype=torch.float64)


@paths
def test_time_0_is_data(path):
    z0, noise = _pair()
    assert torch.equal(add_noise(z0, noise, path(torch.zeros(3))), z0)


def test_time_1_of_the_straight_path_is_noise():
    z0, noise = _pair()
    assert torch.equal(add_noise(z0, noise, flow_path(torch.ones(3))), noise)


@pytest.mark.parametrize(("name", "trace"), [("vp_linear", 7e-3), ("vp_cosine", 1e-4)])
def test_time_1_of_the_other_paths_is_noise_but_for_a_trace(name, trace):
    end = PATHS[name].at_time(1.0)
    assert 0 < end.alpha < trace
    assert end.sigma > 1 - trace**2


def test_the_velocity_of_the_straight_path_is_noise_minus_data_at_any_time():
    z0, noise = _pair()
    for t in (0.0, 0.3, 1.0):
        assert torch.equal(velocity(z0, noise, flow_path(torch.full((3,), t, dtype=torch.float64))), noise - z0)


@paths
def test_every_image_has_a_time_of_its_own(path):
    z0, noise = _pair()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    z_t = add_noise(z0, noise, path(t))
    for index, time in enumerate(t.tolist()):
        torch.testing.assert_close(
            z_t[index], path.at_time(time).alpha * z0[index] + path.at_time(time).sigma * noise[index]
        )


@paths
@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_adding_noise_at_one_time_is_adding_it_at_that_time_for_each_image(path, time):
    z0, noise = _pair()
    expected = add_noise(z0, noise, path(torch.full((3,), time, dtype=torch.float64)))
    assert torch.equal(add_noise_at(path, z0, noise, time), expected)
    assert add_noise_at(path, z0.float(), noise.float(), time).dtype == torch.float32


@paths
@given(st.floats(1e-4, 1 - 1e-4))
def test_the_derivatives_of_the_coefficients_are_those_of_autograd(path, time):
    t = torch.tensor([time], dtype=torch.float64, requires_grad=True)
    point = path(t)
    for value, derivative in ((point.alpha, point.d_alpha), (point.sigma, point.d_sigma)):
        torch.testing.assert_close(torch.autograd.grad(value.sum(), t, retain_graph=True)[0], derivative.detach())


@given(st.floats(0.01, 0.99))
def test_the_velocity_is_the_time_derivative_of_the_noised_latent(time):
    z0, noise = _pair()
    t, step = torch.full((3,), time, dtype=torch.float64), 1e-5
    slope = (add_noise(z0, noise, flow_path(t + step)) - add_noise(z0, noise, flow_path(t - step))) / (2 * step)
    torch.testing.assert_close(velocity(z0, noise, flow_path(t)), slope, rtol=1e-6, atol=1e-6)


@paths
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_increments_carry_a_state_from_one_time_to_any_other(path, now, after):
    z0, noise = _pair()
    d_alpha, d_sigma = increments(path.at_time(now), path.at_time(after))
    moved = add_noise(z0, noise, path(torch.full((3,), now, dtype=torch.float64))) + d_alpha * z0 + d_sigma * noise
    torch.testing.assert_close(moved, add_noise(z0, noise, path(torch.full((3,), after, dtype=torch.float64))))


@vp_paths
def test_index_i_of_a_discrete_schedule_is_at_t_i_plus_1_over_1000(path, schedule):
    from diffusers import DDPMScheduler

    alpha_bar = DDPMScheduler(beta_schedule=schedule).alphas_cumprod
    t = (torch.arange(DISCRETE_STEPS, dtype=torch.float64) + 1) / DISCRETE_STEPS
    torch.testing.assert_close(path(t).alpha.square().float(), alpha_bar, rtol=2e-4, atol=1e-9)


def test_the_linear_betas_are_those_of_the_paper():
    betas = linear_betas()
    assert betas[0] == 1e-4
    assert betas[-1] == 0.02
    torch.testing.assert_close(betas.diff(), torch.full((999,), 0.0199 / 999, dtype=torch.float64))


def test_the_cosine_betas_end_at_the_clip_and_only_the_end_is_clipped():
    betas = cosine_betas()
    assert betas[-1] == 0.999
    assert betas[:-1].max() < 0.999


@vp_paths
@given(st.floats(0, 1))
def test_variance_is_preserved_off_the_discrete_steps_too(path, schedule, time):
    point = path.at_time(time)
    torch.testing.assert_close(point.alpha.square() + point.sigma.square(), torch.tensor(1.0, dtype=torch.float64))


@paths
def test_noise_only_grows(path):
    point = path(torch.linspace(0, 1, 3001, dtype=torch.float64))
    assert (point.alpha.diff() < 0).all()
    assert (point.sigma.diff() >= 0).all()


@paths
@given(st.floats(0, 1))
def test_the_time_of_a_noise_ratio_is_found_again(path, time):
    point = path.at_time(time)
    torch.testing.assert_close(
        path.time_at(point.sigma / point.alpha), torch.tensor(time, dtype=torch.float64), atol=1e-7, rtol=0
    )


@paths
def test_ratios_beyond_the_path_are_its_ends(path):
    assert path.time_at(torch.tensor([0.0, torch.inf])).tolist() == [0, 1]


@paths
def test_float32_is_accurate_to_float32(path):
    t = torch.linspace(0, 1, 777)
    for exact, found in ((path(t.double()).alpha, path(t).alpha), (path(t.double()).sigma, path(t).sigma)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, atol=2e-6, rtol=1e-4)
