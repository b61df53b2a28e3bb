"""Moment matching: Gaussians with a closed form, and samples that are of no use."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from latentline.core.condition import Condition
from latentline.denoisers.gaussian_prior import GaussianPrior
from latentline.denoisers.moment_matching import MomentMaps


def _gaussian(rows: int, covariance: Tensor, mean: Tensor, seed: int) -> Tensor:
    noise = torch.randn(rows, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + noise @ torch.linalg.cholesky(covariance).T).float()


def fitted(samples: Tensor, latents: Tensor, rank: int = 64) -> MomentMaps:
    """Fit a Gaussian to the latents, and return the map to it."""
    prior = GaussianPrior(nn.Identity(), latents.shape[1:], 0, rank, "flow", "velocity")
    prior.fit(0, latents)
    maps = MomentMaps.like(prior, latents.shape[1:])
    maps.fit(0, samples, prior)
    return maps


def match_moments(samples: Tensor, latents: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map as a function of samples alone."""
    maps = fitted(samples, latents)
    return lambda z0: maps(z0, Condition(z0.new_zeros(len(z0), 0)))


def _covariance(length: int, seed: int) -> Tensor:
    factor = torch.randn(length, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.4 * factor @ factor.T / length + 0.6 * torch.eye(length, dtype=torch.float64)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.sqrt() @ vectors.T


@pytest.mark.parametrize("length", [1, 6])
def test_mapped_samples_have_the_mean_and_the_covariance_of_the_latents(length: int) -> None:
    samples = _gaussian(5000, _covariance(length, 0), torch.full((length,), 0.5).double(), 1)
    latents = _gaussian(4000, _covariance(length, 2), torch.full((length,), -0.5).double(), 3)
    mapped = match_moments(samples, latents)(samples)
    torch.testing.assert_close(mapped.mean(dim=0), latents.mean(dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cov(mapped.T), torch.cov(latents.T), atol=1e-4, rtol=1e-4)


def test_the_map_is_the_optimal_transport_between_gaussians_where_the_latents_are_isotropic() -> None:
    covariance = _covariance(6, 0)
    samples = _gaussian(200_000, covariance, torch.zeros(6).double(), 1)
    latents = _gaussian(200_000, torch.eye(6).double(), torch.zeros(6).double(), 2)
    points = torch.randn(10, 6, generator=torch.Generator().manual_seed(3))
    # remark 2.31 with B = I: A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2) = A^(-1/2)
    expected = points.double() @ torch.linalg.inv(_root(covariance))
    torch.testing.assert_close(match_moments(samples, latents)(points).double(), expected, atol=0.05, rtol=0)


def test_samples_with_the_latents_own_moments_stay_as_they_are() -> None:
    latents = _gaussian(3000, _covariance(100, 0), torch.zeros(100).double(), 1)
    torch.testing.assert_close(match_moments(latents, latents)(latents), latents, atol=1e-4, rtol=0)


def test_directions_beyond_the_axes_get_their_total_variance() -> None:
    latents = _gaussian(2000, torch.eye(200).double(), torch.zeros(200).double(), 0)
    samples = 0.8 * _gaussian(2000, torch.eye(200).double(), torch.zeros(200).double(), 1)
    spread = match_moments(samples, latents)(samples).var(dim=0).sum()
    torch.testing.assert_close(
        spread, latents.var(dim=0).sum(), atol=0, rtol=2e-3
    )  # axes of equal variances are inexact


@pytest.mark.parametrize(("rows", "rank"), [(9, 0), (100, 10), (5000, 12)])
def test_axes_are_fewer_where_rows_are_few(rows: int, rank: int) -> None:
    latents = _gaussian(5000, _covariance(12, 0), torch.zeros(12).double(), 1)
    assert int(fitted(latents[:rows], latents).axes[0].any(dim=1).sum()) == rank
    assert match_moments(latents[:rows], latents)(latents).isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1e3])
def test_no_direction_changes_by_more_than_a_factor_of_two(scale: float) -> None:
    latents = _gaussian(3000, _covariance(80, 0), torch.zeros(80).double(), 1)
    samples = scale * latents
    mapped = match_moments(samples, latents)(samples)
    bound = max(2 * scale, scale / 2)
    assert mapped.sub(latents.mean(dim=0)).norm() <= 1.001 * bound * latents.norm() + 1e-3
    assert math.isfinite(float(mapped.sum()))


def test_shapes_of_maps_are_kept() -> None:
    latents = torch.randn(300, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert match_moments(2 * latents, latents)(latents[:7]).shape == (7, 4, 3, 3)


def test_each_sample_gets_the_map_of_its_class_and_one_without_a_class_stays_as_it_is() -> None:
    latents = _gaussian(500, _covariance(6, 0), torch.zeros(6).double(), 1)
    prior = GaussianPrior(nn.Identity(), (6,), 2, 3, "flow", "velocity")
    for index in (2, 0, 1):
        prior.fit(index, latents + 4 * index)
    maps = MomentMaps.like(prior, (6,))
    for index in (0, 1):
        maps.fit(index, 1.5 * latents, prior)
    mapped = maps(latents, Condition(torch.eye(3)[torch.arange(500) % 3]))  # the third place is of another attribute
    assert torch.equal(mapped[2::3], latents[2::3])
    for index in (0, 1):
        alone = MomentMaps((6,), 0, 3)
        alone.load_state_dict({name: buffer[[index]] for name, buffer in maps.state_dict().items()})
        expected = alone(latents[index::3], Condition(torch.zeros(len(latents[index::3]), 0)))
        torch.testing.assert_close(mapped[index::3], expected)
        torch.testing.assert_close(expected.mean(), torch.tensor(4.0 * index), atol=0.3, rtol=0)


def test_maps_are_built_again_from_constructor_and_tensors() -> None:
    latents = torch.randn(300, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    maps = fitted(2 * latents, latents)
    again = MomentMaps(**maps.constructor)
    again.load_state_dict(maps.state_dict())
    condition = Condition(torch.zeros(7, 0))
    assert torch.equal(again(latents[:7], condition), maps(latents[:7], condition))
