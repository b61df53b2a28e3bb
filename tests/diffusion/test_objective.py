"""Training times have their distribution, and the loss is the weighted error of the network's prediction."""

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.core.condition import Condition
from latentline.core.seeds import generator
from latentline.diffusion.objective import denoising_loss, loss_weight, sample_times
from latentline.diffusion.prediction import training_target
from latentline.diffusion.process import PATHS, build_process
from support.exact_models import COMBINATIONS

KINDS = ["uniform", "logit_normal"]
UNCONDITIONAL = Condition(torch.zeros(6, 0))
combinations = pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)


@given(st.integers(1, 300), st.integers(0, 1000))
def test_uniform_times_fall_one_into_each_equal_slice(count, seed):
    times = sample_times(count, "uniform", generator(seed))
    assert times.shape == (count,)
    slices = (times.double().sort().values * count - torch.arange(count)).tolist()
    assert all(-1e-4 <= inside <= 1 + 1e-4 for inside in slices)


@pytest.mark.parametrize("kind", KINDS)
def test_times_lie_between_data_and_noise(kind):
    times = torch.cat([sample_times(count, kind, generator(count)) for count in range(1, 200)])
    assert times.min() >= 0
    assert times.max() <= 1
    assert times.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_times_depend_on_the_generator_alone(kind):
    one, again, other = (sample_times(50, kind, generator(0, name)) for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_times_is_independent_of_their_size(kind):
    times = torch.stack([sample_times(4, kind, generator(seed)) for seed in range(2000)])
    torch.testing.assert_close(times.mean(dim=0), torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_uniform_times_are_uniform():
    assert scipy.stats.kstest(sample_times(4000, "uniform", generator(0)).numpy(), "uniform").statistic < 1e-3


def test_logit_normal_times_are_logistic_of_a_standard_normal():
    times = sample_times(4000, "logit_normal", generator(0))
    assert abs(times.median().item() - 0.5) < 1e-3
    assert scipy.stats.kstest(torch.logit(times.double()).numpy(), "norm").statistic < 1e-3


def test_an_unknown_kind_of_times_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        sample_times(4, "cosine", generator(0))


@combinations
def test_the_exact_network_of_a_single_data_point_has_no_loss(path, prediction):
    z0 = torch.randn(2, 3, 3, dtype=torch.float64).expand(6, -1, -1, -1)
    t, noise = torch.linspace(0.05, 1, 6, dtype=torch.float64), torch.randn(6, 2, 3, 3, dtype=torch.float64)
    process = build_process(path, prediction)

    def exact(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        at = process.path(t).expand(4)
        return training_target(prediction, z0, (z_t - at.alpha * z0) / at.sigma, process.path(t))

    loss = denoising_loss(exact, process, z0, UNCONDITIONAL, t, noise)
    torch.testing.assert_close(loss, torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_loss_of_a_network_of_zeros_is_the_mean_square_of_noise_minus_data():
    z0, noise = torch.randn(2, 6, 2, 3, 3)
    loss = denoising_loss(
        lambda z_t, t, condition: torch.zeros_like(z_t),
        build_process("flow", "velocity"),
        z0,
        UNCONDITIONAL,
        torch.rand(6),
        noise,
    )
    torch.testing.assert_close(loss, torch.stack([((n - z) ** 2).mean() for z, n in zip(z0, noise, strict=True)]))


def test_the_network_receives_the_noised_latent_its_time_and_its_condition():
    z0, noise = torch.randn(2, 4, 5)
    t, condition = torch.rand(4), Condition(torch.randn(4, 3))
    received = []

    def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        received.extend((z_t, t, condition))
        return z_t

    denoising_loss(network, build_process("flow", "v"), z0, condition, t, noise)
    torch.testing.assert_close(received[0], (1 - t)[:, None] * z0 + t[:, None] * noise)
    assert torch.equal(received[1], t)
    assert received[2] is condition


def _signal_to_noise(t: torch.Tensor) -> torch.Tensor:
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    return compute_snr(DDPMScheduler(), (t * 1000).round().long() - 1)


@pytest.mark.parametrize(
    ("prediction", "divisor"),
    [("x0", lambda snr: 1), ("epsilon", lambda snr: snr), ("v", lambda snr: snr + 1)],
    ids=["x0", "epsilon", "v"],
)
def test_min_snr_weights_are_those_of_the_paper(prediction, divisor):
    t = torch.linspace(0.001, 1, 1000)
    snr = _signal_to_noise(t)
    expected = snr.clamp(max=5) / divisor(snr)
    torch.testing.assert_close(
        loss_weight("min_snr", prediction, PATHS["vp_linear"](t)), expected, rtol=2e-3, atol=1e-7
    )


@pytest.mark.parametrize("path", PATHS)
def test_min_snr_weighs_an_error_of_z0_equally_for_every_prediction(path):
    z0, noise, wrong = torch.randn(3, 8, 5, dtype=torch.float64)
    t = torch.linspace(0.01, 0.99, 8, dtype=torch.float64)
    losses = []
    for prediction in (kind for where, kind in COMBINATIONS if where == path):
        process = build_process(path, prediction)

        def network(z_t: torch.Tensor, t: torch.Tensor, condition: Condition, process=process) -> torch.Tensor:
            at = process.path(t).expand(2)
            return training_target(process.prediction, wrong, (z_t - at.alpha * wrong) / at.sigma, process.path(t))

        losses.append(denoising_loss(network, process, z0, Condition(torch.zeros(8, 0)), t, noise, "min_snr"))
    point = PATHS[path](t)
    expected = (wrong - z0).square().mean(dim=1) * (point.alpha / point.sigma).square().clamp(max=5)
    for loss in losses:
        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)


@combinations
def test_weights_are_finite_from_end_to_end(path, prediction):
    point = PATHS[path](torch.tensor([0.0, 1e-6, 0.5, 1.0]))
    for kind in ("uniform", "min_snr"):
        weight = loss_weight(kind, prediction, point)
        assert weight.isfinite().all()
        assert (weight >= 0).all()
        assert (weight <= 5.001).all()


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="snr"):
        loss_weight("snr", "v", PATHS["flow"](torch.rand(3)))
