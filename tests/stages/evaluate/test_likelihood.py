"""The log likelihood by the probability flow equals closed forms."""

import pytest
import torch

from latentline.core.seeds import generator
from latentline.diffusion.process import PATHS, DenoiserModel, build_process
from latentline.diffusion.time_grid import time_grid
from stages.evaluate.likelihood import gaussian_log_density, log_likelihood
from support.exact_models import COMBINATIONS, gaussian, mixture


def test_the_density_of_noise_is_the_normal_one():
    z = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(gaussian_log_density(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum((1, 2, 3)))


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_for_a_gaussian_it_is_the_closed_form(path, prediction):
    """The reference is the density to which the ODE maps N(0, I): the data's on the straight path, else near it."""
    data = gaussian(3)
    z0 = data.draw(20, generator(0, "data"))
    end = PATHS[path].at_time(1.0)
    shrink = 0.4 / ((end.alpha * 0.4) ** 2 + end.sigma**2).sqrt()
    expected = torch.distributions.Normal(1.5 - shrink * end.alpha * 1.5, shrink).log_prob(z0).sum(dim=1)
    torch.testing.assert_close(
        log_likelihood(data.model(path, prediction), z0, time_grid(200)), expected, atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("path", ["flow", "vp_linear"])
def test_for_a_mixture_it_is_the_closed_form_and_the_error_falls_at_second_order(path):
    data = mixture()
    z0 = data.draw(20, generator(0, "data"))
    components = (
        torch.distributions.Normal(data.means[:, None], data.deviations[:, None, None]).log_prob(z0).sum(dim=2)
    )  # (K, B)
    expected = components.logsumexp(dim=0) - torch.tensor(3.0, dtype=torch.float64).log()
    errors = [
        (log_likelihood(data.model(path), z0, time_grid(steps)) - expected).square().mean().sqrt() for steps in (25, 50)
    ]
    assert errors[1] < 0.02
    assert 3 < errors[0] / errors[1] < 5.5


def _swirl() -> DenoiserModel:
    """Return a flow whose Jacobian is not diagonal: each output depends on all values of an image."""
    mixing = torch.randn(4, 4, generator=generator(0, "mixing"), dtype=torch.float64) / 4
    return DenoiserModel(
        build_process("flow", "velocity"), lambda z_t, t: torch.sin(z_t.flatten(1) @ mixing).reshape(z_t.shape)
    )


def test_all_signs_together_are_exact():
    """The mean over every vector of signs has no sampling error."""
    z0 = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 4)  # (16, 4)
    probes = signs[:, None].expand(16, 3, 4).reshape(16, 3, 1, 2, 2)
    torch.testing.assert_close(
        log_likelihood(_swirl(), z0, time_grid(5), probes), log_likelihood(_swirl(), z0, time_grid(5))
    )


def test_it_works_under_no_grad_and_its_result_needs_no_gradient():
    z0 = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        found = log_likelihood(_swirl(), z0, time_grid(3))
    assert not found.requires_grad
    assert not z0.requires_grad
