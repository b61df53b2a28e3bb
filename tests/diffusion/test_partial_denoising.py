"""Partial denoising leads back to data of a Gaussian or a mixture where the network is exact."""

import pytest
import torch

from latentline.core.seeds import generator
from latentline.diffusion.partial_denoising import denoise, estimate
from latentline.diffusion.path import add_noise_at
from latentline.diffusion.process import PATHS
from support.exact_models import Mixture, gaussian, mixture

each_path = pytest.mark.parametrize("path", PATHS)
each_time = pytest.mark.parametrize("t", [0.2, 0.5, 0.9])


def _noised(data: Mixture, path: str, t: float, count: int = 1000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return data, and the same noised to t."""
    draw = generator(0, "data")
    z0 = data.draw(count, draw)
    return z0, add_noise_at(PATHS[path], z0, torch.randn(z0.shape, generator=draw, dtype=z0.dtype), t)


@each_path
@each_time
def test_noised_data_has_the_mean_and_the_spread_of_the_path(path, t):
    data, point = gaussian(), PATHS[path].at_time(t)
    z_t = _noised(data, path, t)[1]
    spread = ((0.4 * point.alpha) ** 2 + point.sigma**2).sqrt().item()
    assert z_t.mean().item() == pytest.approx(1.5 * point.alpha.item(), abs=4 * spread / len(z_t) ** 0.5)
    assert z_t.std().item() == pytest.approx(spread, rel=0.1)


@each_path
@each_time
def test_denoising_takes_a_gaussian_back_along_the_flow_map(path, t):
    """Along the ODE (z - alpha mean) / deviation is constant from any start, so mean and spread come back."""
    data, point = gaussian(), PATHS[path].at_time(t)
    z_t = _noised(data, path, t)[1]
    spread = ((0.4 * point.alpha) ** 2 + point.sigma**2).sqrt()
    found = denoise(data.model(path), z_t, t, steps=100)
    torch.testing.assert_close(found, 1.5 + 0.4 * (z_t - 1.5 * point.alpha) / spread, atol=0.01, rtol=0)
    assert found.mean().item() == pytest.approx(1.5, abs=4 * 0.4 / len(z_t) ** 0.5)
    assert found.std().item() == pytest.approx(0.4, rel=0.1)


@each_path
def test_one_estimate_is_the_mean_of_all_data_that_could_have_become_the_state(path):
    data = mixture()
    z0, z_t = _noised(data, path, 0.5)
    model = data.model(path)
    torch.testing.assert_close(
        estimate(model, z_t, 0.5), data.estimates(z_t, torch.full((len(z_t),), 0.5, dtype=z_t.dtype), path)[0]
    )
    error_of_a_sample = (denoise(model, z_t, 0.5, 50) - z0).square().mean()
    assert (estimate(model, z_t, 0.5) - z0).square().mean() < error_of_a_sample  # the mean has the least error


@each_path
def test_the_later_it_starts_the_further_it_ends_from_where_it_came(path):
    data = mixture()
    errors = []
    for t in (0.05, 0.3, 0.6, 1.0):
        z0, z_t = _noised(data, path, t)
        errors.append((denoise(data.model(path), z_t, t, 50) - z0).square().mean().item())
    assert errors == sorted(errors)
    assert errors[0] < 0.05  # of a variance of about 1
