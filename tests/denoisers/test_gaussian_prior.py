"""The Gaussian denoiser that a network corrects: closed forms, fits, and what it does to a network's output."""

import pytest
import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.denoisers.build import build_denoiser
from latentline.denoisers.gaussian_prior import GaussianPrior
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS
from support.exact_models import COMBINATIONS
from support.small_networks import DENOISERS, awake

SHAPE, LENGTH, CLASSES, RANK = (2, 2, 2), 8, 2, 3
ANY_CLASS = 2  # index of the Gaussian of all latents


def _prior(path: str = "flow", prediction: str = "velocity", rank: int = RANK) -> GaussianPrior:
    def network(z_t: Tensor, t: Tensor, condition: Condition, r: Tensor | None = None) -> Tensor:
        return torch.zeros_like(z_t)

    return GaussianPrior(network, SHAPE, CLASSES, rank, path, prediction)


def _latents(count: int, seed: int = 0) -> Tensor:
    """Return latents (count, *SHAPE) with three directions of large variance, and variance 0.04 along all others."""
    numbers = torch.Generator().manual_seed(seed)
    mean = torch.randn(LENGTH, generator=numbers)
    directions, _ = torch.linalg.qr(torch.randn(LENGTH, RANK, generator=numbers))
    strong = torch.randn(count, RANK, generator=numbers) * torch.tensor([3.0, 2.0, 1.0])
    return (mean + strong @ directions.T + 0.2 * torch.randn(count, LENGTH, generator=numbers)).reshape(count, *SHAPE)


def _covariance(prior: GaussianPrior, index: int) -> Tensor:
    axes, rest = prior.axes[index], prior.rest[index]
    return rest * torch.eye(LENGTH) + axes.T @ ((prior.variances[index] - rest)[:, None] * axes)


def _fitted(prior: GaussianPrior) -> GaussianPrior:
    for index in range(CLASSES + 1):
        assert prior.fit(index, _latents(400, seed=index))
    return prior


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_it_is_the_conditional_mean_of_gaussian_data(path, prediction):
    prior = _fitted(_prior(path, prediction))
    z_t, t = torch.randn(3, *SHAPE), torch.tensor([0.3, 0.6, 0.9])
    vector = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    point = PATHS[path](t)
    output = prior.closed_form(z_t, point, Condition(vector))
    for row, index in enumerate([0, 1, ANY_CLASS]):
        alpha, sigma = point.alpha[row], point.sigma[row]
        covariance = _covariance(prior, index)
        distance = z_t[row].flatten() - alpha * prior.mean[index]
        solved = torch.linalg.solve(alpha**2 * covariance + sigma**2 * torch.eye(LENGTH), distance)
        z0, noise = prior.mean[index] + alpha * covariance @ solved, sigma * solved
        expected = training_target(prediction, z0[None], noise[None], PATHS[path](t[row : row + 1]))
        torch.testing.assert_close(output[row].flatten(), expected[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("t", "r"), [(1.0, 0.0), (1.0, 0.5), (0.5, 0.0), (0.7, 0.65)])
def test_its_average_velocity_leads_where_its_velocities_do(t, r):
    prior, start = _fitted(_prior()), torch.randn(3, *SHAPE)
    condition = Condition(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    point, end = (PATHS["flow"](torch.full((3,), time)) for time in (t, r))
    found = start - (t - r) * prior.closed_form(start, point, condition, end)
    steps, z = 400, start.double()
    for now in torch.linspace(t, r, steps + 1, dtype=torch.float64)[:-1]:  # midpoint rule
        h = (t - r) / steps
        middle = z - h / 2 * prior.closed_form(z, PATHS["flow"](now.expand(3)), condition)
        z = z - h * prior.closed_form(middle, PATHS["flow"]((now - h / 2).expand(3)), condition)
    torch.testing.assert_close(found, z.float(), rtol=1e-3, atol=1e-3)


def test_an_interval_follows_the_gaussian_down_to_where_the_network_takes_over():
    calls = []

    def network(z_t, t, condition, r=None):
        calls.append((z_t, t, r))
        return torch.full_like(z_t, 2.0)

    prior = _fitted(GaussianPrior(network, SHAPE, CLASSES, RANK, "flow", "velocity"))
    t, r = torch.tensor([1.0, 1.0, 0.5, 0.9]), torch.tensor([0.0, 0.5, 0.0, 0.8])
    start, condition = torch.randn(4, *SHAPE), Condition(torch.eye(CLASSES)[[0, 1, 1, 0]])
    ends = start - (t - r)[:, None, None, None] * prior(start, t, condition, r)
    ((z_s, s, passed),) = calls
    assert s.tolist() == pytest.approx([0.75, 0.75, 0.5, 0.8])
    assert torch.equal(passed, r)
    gaussian = prior.closed_form(start, PATHS["flow"](t), condition, PATHS["flow"](s))
    torch.testing.assert_close(z_s, start - (t - s)[:, None, None, None] * gaussian)
    torch.testing.assert_close(ends, z_s - 2 * (s - r)[:, None, None, None])


def test_the_average_velocity_of_no_interval_is_the_velocity():
    prior, z_t, t = _fitted(_prior()), torch.randn(3, *SHAPE), torch.tensor([0.0, 0.4, 1.0])
    condition = Condition(torch.eye(CLASSES)[[0, 1, 1]])
    torch.testing.assert_close(prior(z_t, t, condition, t), prior(z_t, t, condition))


def test_a_fit_finds_mean_and_covariance():
    prior, latents = _prior(), _latents(4000)
    assert prior.fit(0, latents)
    torch.testing.assert_close(prior.mean[0], latents.flatten(1).mean(0))
    torch.testing.assert_close(_covariance(prior, 0), latents.flatten(1).T.cov(), rtol=0, atol=0.02)
    torch.testing.assert_close(prior.rest[0], torch.tensor([0.04]), rtol=0.1, atol=0)


def test_a_fit_of_all_axes_is_the_covariance():
    prior, latents = _prior(rank=LENGTH), _latents(4000)
    prior.fit(0, latents)
    torch.testing.assert_close(_covariance(prior, 0), latents.flatten(1).T.cov(), rtol=1e-3, atol=1e-3)


def test_few_latents_give_fewer_axes_and_a_class_the_gaussian_of_all():
    prior = _prior()
    for count, axes in ((4 * RANK - 1, RANK - 1), (1, 0)):
        assert prior.fit(ANY_CLASS, _latents(count))
        assert int(prior.axes[ANY_CLASS].any(dim=1).sum()) == axes
        output = prior(torch.randn(2, *SHAPE), torch.tensor([0.0, 1.0]), Condition(torch.zeros(2, CLASSES)))
        assert output.isfinite().all()
    assert not prior.fit(0, _latents(4 * RANK - 1, seed=1))
    for buffer in prior.buffers(recurse=False):
        assert torch.equal(buffer[0], buffer[ANY_CLASS])


def test_a_fit_leaves_the_random_numbers_of_a_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _prior().fit(0, _latents(400))
    assert torch.equal(torch.rand(1), expected)


def test_a_network_predicts_alone_at_data_and_a_new_one_the_gaussian_at_noise():
    gaussian = {"classes": 3, "rank": 4, "path": "flow", "prediction": "velocity"}
    network = build_denoiser("unet", cond_dim=3, gaussian=gaussian, **DENOISERS["unet"])
    latents = torch.randn(50, *DENOISERS["unet"]["latent_shape"])
    assert all(network.fit(index, latents + index) for index in range(4))
    condition, z_t = Condition(torch.eye(3)[:2]), torch.randn(2, *latents.shape[1:])
    t = torch.ones(2)
    torch.testing.assert_close(network(z_t, t, condition), network.closed_form(z_t, network.path(t), condition))
    # At noise nothing of z_t is data: the velocity is z_t minus the mean.
    torch.testing.assert_close(network(z_t, t, condition).flatten(1), z_t.flatten(1) - network.mean[:2])
    awake(network)
    t = torch.zeros(2)
    torch.testing.assert_close(network(z_t, t, condition), network.network(z_t, t, condition))


@pytest.mark.parametrize("name", ["unet", "dit", "mlp"])
def test_with_captions_every_kind_of_network_corrects_the_gaussian_of_all_latents(name):
    text = {"num_ids": 9, "length": 4, "width": 8, "depth": 1, "heads": 2}
    gaussian = {"classes": 0, "rank": 2, "path": "flow", "prediction": "x0"}
    network = build_denoiser(name, cond_dim=0, text=text, gaussian=gaussian, **DENOISERS[name])
    latents = torch.randn(50, *DENOISERS[name]["latent_shape"])
    assert network.network.fit(0, latents)
    tokens = torch.randint(1, 9, (2, 4))
    condition = Condition(torch.zeros(2, 0), tokens, tokens > 0)
    t = torch.tensor([0.5, 1.0])
    expected = network.network.closed_form(latents[:2], network.network.path(t), condition)
    output = network(latents[:2], t, condition)  # a new network adds nothing
    torch.testing.assert_close(output[1], expected[1])
    torch.testing.assert_close(output[0], expected[0] * (1 / (1 + 27)))  # the SNR is 9 times that of weight 1/2
