import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentline.common.seeds import generator
from latentline.diffusion.objective import draw_times, velocity_loss

KINDS = ["uniform", "logit_normal"]


@given(st.integers(1, 300), st.integers(0, 1000))
def test_uniform_times_fall_one_into_each_equal_slice(count, seed):
    times = draw_times(count, "uniform", generator(seed))
    assert times.shape == (count,)
    slices = (times.double().sort().values * count - torch.arange(count)).tolist()
    assert all(-1e-4 <= inside <= 1 + 1e-4 for inside in slices)


@pytest.mark.parametrize("kind", KINDS)
def test_times_lie_between_data_and_noise(kind):
    times = torch.cat([draw_times(count, kind, generator(count)) for count in range(1, 200)])
    assert times.min() >= 0
    assert times.max() <= 1
    assert times.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_times_depend_on_the_generator_alone(kind):
    one, again, other = (draw_times(50, kind, generator(0, name)) for name in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_times_says_nothing_of_their_size(kind):
    times = torch.stack([draw_times(4, kind, generator(seed)) for seed in range(2000)])
    torch.testing.assert_close(times.mean(dim=0), torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_uniform_times_are_uniform():
    assert scipy.stats.kstest(draw_times(4000, "uniform", generator(0)).numpy(), "uniform").statistic < 1e-3


def test_logit_normal_times_are_logistic_of_a_standard_normal():
    times = draw_times(4000, "logit_normal", generator(0))
    assert abs(times.median().item() - 0.5) < 1e-3
    assert scipy.stats.kstest(torch.logit(times.double()).numpy(), "norm").statistic < 1e-3


def test_an_unknown_kind_of_times_is_refused():
    with pytest.raises(ValueError, match="cosine"):
        draw_times(4, "cosine", generator(0))


def test_the_network_that_knows_the_only_data_point_has_no_loss():
    z0 = torch.randn(2, 3, 3).expand(6, -1, -1, -1)
    t, noise = torch.linspace(0.05, 1, 6), torch.randn(6, 2, 3, 3)

    def perfect(z_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return (z_t - z0) / t[:, None, None, None]

    torch.testing.assert_close(velocity_loss(perfect, z0, torch.zeros(6, 0), t, noise), torch.zeros(6), atol=1e-6, rtol=0)


def test_a_network_of_zeros_pays_the_mean_square_of_noise_minus_data():
    z0, noise = torch.randn(2, 6, 2, 3, 3)
    loss = velocity_loss(lambda z_t, t, condition: torch.zeros_like(z_t), z0, torch.zeros(6, 0), torch.rand(6), noise)
    torch.testing.assert_close(loss, torch.stack([((n - z) ** 2).mean() for z, n in zip(z0, noise, strict=True)]))


def test_the_network_sees_the_noised_latent_its_time_and_its_condition():
    z0, noise = torch.randn(2, 4, 5)
    t, condition = torch.rand(4), torch.randn(4, 3)
    seen = []

    def network(*arguments: torch.Tensor) -> torch.Tensor:
        seen.extend(arguments)
        return arguments[0]

    velocity_loss(network, z0, condition, t, noise)
    torch.testing.assert_close(seen[0], (1 - t)[:, None] * z0 + t[:, None] * noise)
    assert torch.equal(seen[1], t)
    assert torch.equal(seen[2], condition)
