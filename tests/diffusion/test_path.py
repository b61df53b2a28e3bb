"""The convention: t = 0 is data, t = 1 is noise, velocity is dz/dt."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.diffusion.path import add_noise, flow_path, velocity


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.randn(3, 2, 4, 5, dtype=torch.float64)


def test_time_0_is_data_and_time_1_is_noise():
    z0, noise = _pair()
    assert torch.equal(add_noise(z0, noise, flow_path(torch.zeros(3))), z0)
    assert torch.equal(add_noise(z0, noise, flow_path(torch.ones(3))), noise)


def test_the_velocity_of_the_straight_path_is_noise_minus_data_at_any_time():
    z0, noise = _pair()
    for t in (0.0, 0.3, 1.0):
        assert torch.equal(velocity(z0, noise, flow_path(torch.full((3,), t, dtype=torch.float64))), noise - z0)


def test_every_image_has_a_time_of_its_own():
    z0, noise = _pair()
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    z_t = add_noise(z0, noise, flow_path(t))
    for index, time in enumerate(t.tolist()):
        torch.testing.assert_close(z_t[index], (1 - time) * z0[index] + time * noise[index])


@given(st.floats(0, 1))
def test_the_coefficients_derivatives_are_what_autograd_finds(time):
    t = torch.tensor([time], dtype=torch.float64, requires_grad=True)
    point = flow_path(t)
    for value, derivative in ((point.alpha, point.d_alpha), (point.sigma, point.d_sigma)):
        torch.testing.assert_close(torch.autograd.grad(value.sum(), t, retain_graph=True)[0], derivative)


@given(st.floats(0.01, 0.99))
def test_the_velocity_is_the_time_derivative_of_the_noised_latent(time):
    z0, noise = _pair()
    t, step = torch.full((3,), time, dtype=torch.float64), 1e-5
    slope = (add_noise(z0, noise, flow_path(t + step)) - add_noise(z0, noise, flow_path(t - step))) / (2 * step)
    torch.testing.assert_close(velocity(z0, noise, flow_path(t)), slope, rtol=1e-6, atol=1e-6)
