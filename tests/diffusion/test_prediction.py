"""Every kind of prediction converts to z0, noise, velocity and score and back, on every path."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.diffusion.path import add_noise, flow_path, velocity
from latentline.diffusion.prediction import from_output, training_target, z0_error_per_output_error
from latentline.diffusion.process import PATHS
from support.exact_models import COMBINATIONS, gaussian

combinations = pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
UNDETERMINED = {("x0", 0.0)}  # z_t is the data and z0 is predicted: the noise stays open


def _pair(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    z0, noise = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return z0, noise


def _point(path: str, time: float, dtype: torch.dtype = torch.float64):
    return PATHS[path](torch.full((3,), time, dtype=dtype))


@combinations
@given(st.one_of(st.floats(0.001, 1), st.just(0.0), st.just(1.0)), st.integers(0, 2**16))
def test_the_right_output_gives_back_data_and_noise(path, prediction, time, seed):
    z0, noise = _pair(seed)
    point = _point(path, time)
    found = from_output(prediction, add_noise(z0, noise, point), training_target(prediction, z0, noise, point), point)
    torch.testing.assert_close(found.z0, z0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(
        found.noise, torch.zeros_like(noise) if (prediction, time) in UNDETERMINED else noise, rtol=1e-8, atol=1e-8
    )


@combinations
@pytest.mark.parametrize("time", [0.0, 1e-6, 1e-3, 0.5, 0.999, 1.0])
def test_any_output_means_something_finite_in_float32_and_can_be_differentiated(path, prediction, time):
    z_t, output = _pair(dtype=torch.float32)
    z_t.requires_grad_()
    found = from_output(prediction, z_t, output, _point(path, time, torch.float32))
    (slope,) = torch.autograd.grad((found.z0 + found.noise).sum(), z_t)
    for value in (found.z0, found.noise, slope):
        assert value.isfinite().all()


@combinations
@given(st.floats(0.02, 0.98), st.integers(0, 2**16))
def test_any_prediction_in_all_its_forms_describes_one_and_the_same_point(path, prediction, time, seed):
    z_t, output = _pair(seed)
    point = _point(path, time)
    found = from_output(prediction, z_t, output, point)
    torch.testing.assert_close(add_noise(found.z0, found.noise, point), z_t)
    torch.testing.assert_close(velocity(found.z0, found.noise, point), found.velocity)
    torch.testing.assert_close(training_target(prediction, found.z0, found.noise, point), output)
    torch.testing.assert_close(found.score * point.expand(4).sigma, -found.noise)


def test_the_targets_are_those_of_the_papers():
    z0, noise = _pair()
    at = _point("vp_linear", 0.4)
    alpha, sigma = at.alpha[0], at.sigma[0]
    assert torch.equal(training_target("epsilon", z0, noise, at), noise)
    assert torch.equal(training_target("x0", z0, noise, at), z0)
    torch.testing.assert_close(training_target("v", z0, noise, at), alpha * noise - sigma * z0)
    torch.testing.assert_close(training_target("velocity", z0, noise, _point("flow", 0.4)), noise - z0)


def test_at_time_0_the_state_itself_is_the_data():
    z_t, v = torch.randn(2, 3, 2, 4, 4)
    assert torch.equal(from_output("velocity", z_t, v, flow_path(torch.zeros(3))).z0, z_t)


@combinations
def test_the_score_of_the_exact_network_is_the_gradient_of_the_log_density(path, prediction):
    data = gaussian(2)
    z, t = torch.randn(50, 2, dtype=torch.float64), torch.rand(50, dtype=torch.float64) * 0.98 + 0.01
    point = PATHS[path](t).expand(2)
    expected = -(z - point.alpha * data.means) / ((point.alpha * data.deviations) ** 2 + point.sigma**2)
    torch.testing.assert_close(data.model(path, prediction).predict(z, t).score, expected, rtol=1e-5, atol=1e-5)


@combinations
@given(st.floats(0.01, 0.99))
def test_an_error_of_the_output_moves_z0_as_far_as_stated(path, prediction, time):
    (z_t, output), point = _pair(), _point(path, time)
    moved = from_output(prediction, z_t, output + 1e-3, point).z0 - from_output(prediction, z_t, output, point).z0
    torch.testing.assert_close(
        moved.abs()[:, 0, 0, 0] / 1e-3, z0_error_per_output_error(prediction, point), rtol=1e-6, atol=1e-9
    )
