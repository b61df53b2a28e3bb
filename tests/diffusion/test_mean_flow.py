"""The MeanFlow identity and its loss, where the average velocity follows from integration or in closed form."""

import pytest
import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.mean_flow import Intervals, MeanFlow, average_target, mean_flow_loss, sample_intervals
from latentline.diffusion.path import add_noise, flow_path
from tests.support.exact_models import gaussian, mixture

FIELD = MeanFlow(max_guidance_scale=4.0, guidance_start=0.0, guidance_end=1.0)
SCALE = 3.0


def _field_of(z: Tensor, t: Tensor, scale: Tensor, condition: Tensor) -> Tensor:
    """Return the exact guided velocity (B, 2): the condition 1 is a Gaussian, 0 is the mixture."""
    path = flow_path(t).expand(2)
    velocities = []
    for data in (gaussian(2), mixture()):
        z0, noise = data.estimates(z, t, "flow")
        velocities.append(path.d_alpha * z0 + path.d_sigma * noise)
    cond, uncond = velocities
    return uncond + condition * scale[:, None] * (cond - uncond)


def _exact(steps: int):
    """Return a network of the exact average velocity of the field guided at every t, by Runge-Kutta's method."""

    def network(z_t, t, condition, r=None, guidance_scale=None):
        scale = torch.ones_like(t) if guidance_scale is None else guidance_scale
        if r is None:
            return _field_of(z_t, t, scale, condition.vector)
        z, h = z_t, (t - r) / steps
        for step in range(steps):
            now, half = t - step * h, h[:, None] / 2
            k1 = _field_of(z, now, scale, condition.vector)
            k2 = _field_of(z - half * k1, now - h / 2, scale, condition.vector)
            k3 = _field_of(z - half * k2, now - h / 2, scale, condition.vector)
            k4 = _field_of(z - 2 * half * k3, now - h, scale, condition.vector)
            z = z - half / 3 * (k1 + 2 * k2 + 2 * k3 + k4)
        return (z_t - z) / (t - r)[:, None]

    return network


def _batch(count: int = 8):
    numbers = torch.Generator().manual_seed(3)
    z0, noise = torch.randn(2, count, 2, generator=numbers, dtype=torch.float64)
    ends = torch.rand(2, count, generator=numbers, dtype=torch.float64)
    intervals = Intervals(ends.amax(0), ends.amin(0), torch.full((count,), SCALE, dtype=torch.float64))
    condition = Condition((torch.arange(count) % 2)[:, None].double())
    return z0, condition, intervals, noise


def test_the_exact_average_velocity_fulfils_the_identity():
    z0, condition, intervals, noise = _batch()
    z_t, network = add_noise(z0, noise, flow_path(intervals.t)), _exact(12)
    expected = network(z_t, intervals.t, condition, intervals.r, intervals.guidance_scale)
    target = average_target(network, FIELD, z_t, condition, intervals)
    torch.testing.assert_close(target, expected, atol=1e-3, rtol=0)


def test_the_exact_average_velocity_has_no_loss_and_no_gradient():
    z0, condition, intervals, noise = _batch()
    exact, shift = _exact(12), torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def network(*args):
        return exact(*args) + (shift if len(args) > 3 else 0)

    loss = mean_flow_loss(network, FIELD, z0, condition, intervals, noise, 0.5).sum()
    (gradient,) = torch.autograd.grad(loss, shift)
    assert loss < 1e-5
    assert gradient.abs().max() < 1e-2


def test_an_average_over_a_gaussian_is_that_of_the_closed_form():
    z0, _, intervals, noise = _batch()
    condition = Condition(torch.ones(8, 1, dtype=torch.float64))
    t, r, ones = intervals.t, intervals.r, torch.ones(8, dtype=torch.float64)
    z_t = add_noise(z0, noise, flow_path(t))

    def deviation(time: Tensor) -> Tensor:
        return ((1 - time) ** 2 * 0.4**2 + time**2).sqrt()[:, None]

    z_r = 1.5 * (1 - r)[:, None] + deviation(r) / deviation(t) * (z_t - 1.5 * (1 - t)[:, None])
    average = _exact(24)(z_t, t, condition, r, ones)
    torch.testing.assert_close(average, (z_t - z_r) / (t - r)[:, None], atol=1e-6, rtol=0)
    target = average_target(_exact(12), FIELD, z_t, condition, intervals._replace(guidance_scale=ones))
    torch.testing.assert_close(target, average, atol=1e-5, rtol=0)


def test_guidance_is_a_part_of_the_velocity_between_its_two_times():
    field, condition = MeanFlow(4.0, 0.2, 0.7), Condition(torch.ones(3, 1))
    t = torch.tensor([0.1, 0.5, 0.9])
    same = Intervals(t, t, torch.full((3,), SCALE))

    def network(z, t, condition, r=None, guidance_scale=None):
        return condition.vector.expand_as(z)  # 1 with a condition, else 0

    target = average_target(network, field, torch.zeros(3, 2), condition, same)
    assert target.tolist() == [[1, 1], [SCALE, SCALE], [1, 1]]


def test_where_r_is_t_the_loss_is_the_plain_error_of_the_velocity():
    z0, condition, intervals, noise = _batch()
    t = intervals.t
    same = Intervals(t, t, torch.ones_like(t))
    loss = mean_flow_loss(lambda z, *_: torch.zeros_like(z), FIELD, z0, condition, same, noise, 1.0)
    torch.testing.assert_close(loss, (noise - z0).square().mean(dim=1))


@pytest.mark.parametrize(("fraction", "averaged"), [(0.0, 0), (0.5, 30), (0.25, 15), (0.9, 54)])
def test_intervals_are_the_wanted_fraction_of_a_batch_in_turn(fraction, averaged):
    t = torch.rand(60)
    intervals = sample_intervals(t, fraction, 4.0, torch.Generator().manual_seed(0))
    is_average = intervals.r < intervals.t
    assert is_average.sum() == averaged
    assert torch.equal(intervals.t[~is_average], t[~is_average])
    assert torch.equal(intervals.guidance_scale[~is_average], torch.ones(60 - averaged))
    assert (intervals.guidance_scale >= 1).all()
    assert (intervals.guidance_scale <= 4).all()
    assert abs(is_average[:20].sum() - 20 * fraction) <= 1


def test_the_weight_is_that_of_the_paper_and_has_no_gradient():
    z0, condition, intervals, noise = _batch()
    level = torch.ones((), dtype=torch.float64, requires_grad=True)

    def network(z, t, condition, r=None, guidance_scale=None):
        return (0 if r is None else level) * torch.ones_like(z)  # the velocity and the target are 0

    loss = mean_flow_loss(network, FIELD, z0, condition, intervals, noise, 0.5)
    torch.testing.assert_close(loss.detach(), torch.full_like(loss, 1 / 1.001**0.5))
    (gradient,) = torch.autograd.grad(loss.sum(), level)
    torch.testing.assert_close(gradient, torch.tensor(8 * 2 / 1.001**0.5, dtype=torch.float64))
