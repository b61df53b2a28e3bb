"""The loss of a flow map, where trajectories follow in closed form, and the intervals that it is trained on."""

import pytest
import torch
from torch import Tensor

from latentline.core.condition import Condition
from latentline.diffusion.flow_map import TRAJECTORY_TIMES, Intervals, flow_map_loss, lengthened, sample_intervals
from latentline.diffusion.path import add_noise, flow_path
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.unipc import unipc
from tests.support.exact_models import gaussian

MEAN, DEVIATION = 1.5, 0.4  # of the data of gaussian()
CONDITION = Condition(torch.zeros(6, 0))


def _at(z: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Return z_r (B, 2) on the trajectory through z_t: it keeps its distance from the mean, in deviations."""

    def deviation(time: Tensor) -> Tensor:
        return ((1 - time) ** 2 * DEVIATION**2 + time**2).sqrt()[:, None]

    return MEAN * (1 - r)[:, None] + deviation(r) / deviation(t) * (z - MEAN * (1 - t)[:, None])


def _exact(z_t: Tensor, t: Tensor, condition: Condition, r: Tensor) -> Tensor:
    return (z_t - _at(z_t, t, r)) / (t - r)[:, None]


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    """Return latents and noise, (6, 2) each, and trajectories (6, 4, 2) in closed form."""
    numbers = torch.Generator().manual_seed(3)
    z0, noise, start = torch.randn(3, 6, 2, generator=numbers, dtype=torch.float64)
    one = torch.ones(6, dtype=torch.float64)
    states = [_at(start, one, time * one) for time in TRAJECTORY_TIMES]
    return z0, noise, torch.stack([*states, torch.full_like(start, MEAN)], dim=1)


def _intervals() -> Intervals:
    ends = torch.tensor([[1.0, 1.0, 0.5, 1.0, 1.0, 0.5], [0.0, 0.5, 0.0, 0.0, 0.5, 0.0]], dtype=torch.float64)
    return Intervals(ends[0], ends[1])


def test_the_exact_average_velocity_has_no_loss():
    z0, noise, trajectories = _batch()
    loss = flow_map_loss(_exact, z0, trajectories, CONDITION, _intervals(), noise)
    torch.testing.assert_close(loss, torch.zeros(6, dtype=torch.float64))


def test_unipc_draws_the_trajectories_of_the_closed_form():
    _, _, trajectories = _batch()
    states = []
    unipc(gaussian(2).model("flow"), trajectories[:, 0], time_grid(16), lambda t, z: states.append((t, z)))
    drawn = torch.stack([z for t, z in states if t in TRAJECTORY_TIMES], dim=1)
    torch.testing.assert_close(drawn[:, 1], trajectories[:, 1], atol=1e-4, rtol=0)  # 3e-4 without the corrector
    torch.testing.assert_close(drawn[:, 2], trajectories[:, 2], atol=5e-3, rtol=0)


def test_where_r_is_t_the_loss_is_the_error_of_the_velocity_from_data():
    z0, noise, trajectories = _batch()
    t = torch.rand(6, dtype=torch.float64)
    calls = []

    def network(z_t, time, condition, r):
        calls.append((z_t, time, r))
        return torch.zeros_like(z_t)

    loss = flow_map_loss(network, z0, trajectories, CONDITION, Intervals(t, t), noise)
    torch.testing.assert_close(loss, (noise - z0).square().mean(dim=1))
    ((z_t, time, r),) = calls
    assert torch.equal(z_t, add_noise(z0, noise, flow_path(t)))
    assert torch.equal(time, t)
    assert torch.equal(r, t)


def test_a_target_is_lengthened_by_what_its_direction_lost():
    velocity, wanted = torch.randn(2, 5, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = wanted * (torch.arange(8) < 6)[:, None]
    target = lengthened(velocity + wanted, velocity, velocity + 0.3 * found)
    along = ((target - velocity) * found).sum(dim=(1, 2)) / found.flatten(1).norm(dim=1)
    torch.testing.assert_close(along, wanted.flatten(1).norm(dim=1))
    torch.testing.assert_close(lengthened(target, velocity, target), target)


def test_outputs_learn_to_vary_as_much_as_targets_that_they_cannot_predict():
    noise, unpredictable = torch.randn(2, 200, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, mean = torch.ones(200, dtype=torch.float64), torch.zeros(200, 64, dtype=torch.float64)
    ends = noise + 0.7 * unpredictable  # least squares predict the noise, of variance 1 instead of 1.49
    trajectories, factor = torch.stack([noise, mean, ends, mean], dim=1), torch.tensor(0.0, requires_grad=True)

    def network(z_t, t, condition, r):
        return z_t - factor * z_t

    for _ in range(60):
        loss = flow_map_loss(network, mean, trajectories, CONDITION, Intervals(one, 0 * one), noise).mean()
        (gradient,) = torch.autograd.grad(loss, factor)
        factor = (factor - 0.2 * gradient).detach().requires_grad_()
    assert abs(factor.item() - 1.49**0.5) < 0.02


@pytest.mark.parametrize(("fraction", "averaged"), [(0.0, 0), (0.5, 3000), (0.25, 1500), (0.8, 4800)])
def test_intervals_are_the_wanted_fraction_of_a_batch_in_turn(fraction, averaged):
    times = torch.rand(6000)
    t, r = sample_intervals(times, fraction, torch.Generator().manual_seed(0))
    is_average = r < t
    assert is_average.sum() == averaged
    assert abs(is_average[:20].sum() - 20 * fraction) <= 1
    assert torch.equal(t[~is_average], times[~is_average])
    assert torch.equal(r[~is_average], times[~is_average])
    for interval, share in (((1.0, 0.0), 0.5), ((1.0, 0.5), 0.25), ((0.5, 0.0), 0.25)):
        found = ((t == interval[0]) & (r == interval[1])).sum() / max(averaged, 1)
        assert abs(found - share * bool(averaged)) < 0.03
