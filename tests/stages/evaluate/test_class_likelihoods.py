"""Every method of the diffusion classifier gives the exact posterior where the data is Gaussian."""

import math
from collections.abc import Callable

import pytest
import torch

from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.diffusion.path import add_noise
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, Network, build_process, conditional_model
from latentline.diffusion.time_grid import time_grid
from stages.evaluate.class_likelihoods import (
    WEIGHTINGS,
    by_denoising,
    by_inversion,
    by_likelihood,
    denoising_errors,
    error_weight,
    posterior,
)
from support.exact_models import COMBINATIONS

MEANS = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]], dtype=torch.float64)
EQUAL = torch.tensor([0.6, 0.6, 0.6], dtype=torch.float64)
UNEQUAL = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def _network(path: str, prediction: str, deviations: torch.Tensor) -> Network:
    """Return the exact network for data with one Gaussian per class, conditioned on the class."""

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        classes, point = condition.vector.argmax(dim=1), PATHS[path](t)
        at, mean, deviation = point.expand(2), MEANS[classes], deviations[classes, None]
        away, variance = z_t - at.alpha * mean, (at.alpha * deviation) ** 2 + at.sigma**2
        return training_target(
            prediction, mean + at.alpha * deviation**2 / variance * away, at.sigma / variance * away, point
        )

    return network


def _images(count: int = 40) -> tuple[torch.Tensor, Condition]:
    """Return points in the classes and between them, each with all classes as candidates."""
    z0 = 1.2 * torch.randn(count, 2, dtype=torch.float64, generator=generator(0, "images"))
    return z0, _every_class(count)


def _every_class(count: int) -> Condition:
    return Condition(torch.eye(3, dtype=torch.float64).repeat(count, 1))


def _closed_form(z0: torch.Tensor, deviations: torch.Tensor) -> torch.Tensor:
    density = torch.distributions.Normal(MEANS, deviations[:, None]).log_prob(z0[:, None]).sum(dim=2)  # (B, K)
    joint = density.exp() * PRIOR
    return joint / joint.sum(dim=1, keepdim=True)


def _evenly_spaced(count: int) -> torch.Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _denoising(network: Network, path: str, prediction: str, z0: torch.Tensor, conditions: Condition) -> torch.Tensor:
    """Use four draws per time with exactly the mean and covariance of noise: a network linear in z_t needs no more."""
    draws = 2**0.5 * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    t, noise = _evenly_spaced(100).repeat_interleave(4), draws.repeat(100, 1)
    return by_denoising(network, build_process(path, prediction), z0, conditions, t, noise, "elbo")


def _likelihood(network: Network, path: str, prediction: str, z0: torch.Tensor, conditions: Condition) -> torch.Tensor:
    signs = torch.randint(2, (1, *z0.shape), generator=generator(0, "signs")).double() * 2 - 1
    return by_likelihood(network, build_process(path, prediction), z0, conditions, time_grid(40), signs)


def _inversion(network: Network, path: str, prediction: str, z0: torch.Tensor, conditions: Condition) -> torch.Tensor:
    return by_inversion(network, build_process(path, prediction), z0, conditions, time_grid(40))


@pytest.mark.parametrize(
    ("method", "path", "prediction", "tolerance"),
    [
        *(
            (method, path, prediction, 0.01)
            for method in (_inversion, _likelihood)
            for path, prediction in COMBINATIONS
        ),
        (_denoising, "flow", "velocity", 0.01),
        (_denoising, "vp_cosine", "v", 0.01),
    ],
)
def test_for_classes_of_equal_shape_every_method_gives_the_exact_posterior(method, path, prediction, tolerance):
    z0, conditions = _images()
    found = posterior(method(_network(path, prediction, EQUAL), path, prediction, z0, conditions), PRIOR)
    torch.testing.assert_close(found, _closed_form(z0, EQUAL), atol=tolerance, rtol=0)


@pytest.mark.parametrize(("method", "tolerance"), [(_likelihood, 0.01), (_denoising, 0.01)])
def test_for_classes_of_different_shape_the_change_of_volume_is_needed(method, tolerance):
    z0, conditions = _images()
    found, expected = (
        posterior(method(_network("flow", "v", UNEQUAL), "flow", "v", z0, conditions), PRIOR),
        _closed_form(z0, UNEQUAL),
    )
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    without = posterior(_inversion(_network("flow", "v", UNEQUAL), "flow", "v", z0, conditions), PRIOR)
    assert (without - expected).abs().max() > 0.2


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_with_few_times_any_weighting_chooses_the_class_of_the_closed_form(weighting):
    labels = torch.arange(60) % 3
    z0 = MEANS[labels] + 0.3 * torch.randn(60, 2, dtype=torch.float64, generator=generator(0))
    process = build_process("flow", "velocity")
    evidence = by_denoising(
        _network("flow", "velocity", EQUAL / 2),
        process,
        z0,
        _every_class(60),
        _evenly_spaced(32),
        torch.randn(32, 2, dtype=torch.float64),
        weighting,
    )
    best = (z0[:, None] - MEANS).square().sum(2).argmin(dim=1)
    assert (evidence.argmax(dim=1) == best).float().mean() > 0.9


def test_a_class_without_images_has_probability_0():
    found = posterior(torch.tensor([[0.0, 50.0, 1.0]]), torch.tensor([0.5, 0.0, 0.5]))
    assert found[0, 1] == 0
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1))


@pytest.fixture
def untrained() -> Callable[..., torch.Tensor]:
    """Return an untrained network whose output depends on all its inputs."""
    return lambda z_t, t, condition: torch.sin(
        z_t * condition.vector.sum(dim=1)[:, None, None, None] + t[:, None, None, None]
    )


def test_an_error_is_the_squared_one_of_that_image_condition_and_time(untrained):
    z0, conditions = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 5)
    t, noise = torch.tensor([0.2, 0.7]), torch.randn(2, 2, 3, 3)
    process, all_conditions = build_process("vp_linear", "epsilon"), Condition(conditions.flatten(0, 1))
    found = denoising_errors(untrained, process, z0, all_conditions, t, noise)
    assert found.shape == (4, 2, 2)
    for image in range(4):
        for index in range(2):
            for step in range(2):
                time = t[step : step + 1]
                z_t = add_noise(z0[image : image + 1], noise[step : step + 1], PATHS["vp_linear"](time))
                condition = Condition(conditions[image, index : index + 1])
                expected = (untrained(z_t, time, condition) - noise[step]).square().sum()
                torch.testing.assert_close(found[image, index, step], expected)


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_z0_early_weights_errors_of_z0_less_at_later_times(untrained, path, prediction):
    z0, conditions = torch.randn(3, 2, 3, 3, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
    t, noise = torch.tensor([0.3, 0.8], dtype=torch.float64), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    process = build_process(path, prediction)
    found = by_denoising(untrained, process, z0, Condition(conditions.flatten(0, 1)), t, noise, "z0_early")
    for index in range(2):
        model, expected = conditional_model(untrained, process, Condition(conditions[:, index])), 0
        for time, draw in zip(t.tolist(), noise, strict=True):
            z_t = add_noise(z0, draw.expand_as(z0), PATHS[path](t.new_full((3,), time)))
            expected = (
                expected
                - math.exp(-7 * time) * (model.predict_at(z_t, time).z0 - z0).square().flatten(1).sum(dim=1) / 2
            )
        torch.testing.assert_close(found[:, index], expected)


@pytest.mark.parametrize("path", PATHS)
def test_elbo_weights_by_the_slope_of_the_log_signal_to_noise_ratio(path):
    t = torch.linspace(0.02, 0.97, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(PATHS[path](t).log_snr.sum(), t)
    torch.testing.assert_close(error_weight("elbo", PATHS[path], t.detach()), -slope, rtol=1e-4, atol=0)
