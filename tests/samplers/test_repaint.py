"""RePaint with an exact model approaches the conditional distribution, which a Gaussian has in closed form."""

from itertools import pairwise

import pytest
import torch

from latentline.core.seeds import generator
from latentline.diffusion.process import PATHS
from latentline.diffusion.time_grid import time_grid
from latentline.samplers.ddpm import ddpm
from latentline.samplers.repaint import repaint
from support.exact_models import COMBINATIONS, Gaussian, made_up_model

each_path = pytest.mark.parametrize("path", PATHS)
SHAPE = (4, 3)
COUNT = 1000


def _noise(index: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(0, "repaint", index))


def _authors_schedule(steps: int, resamplings: int, jump: int) -> list[int]:
    """Return the times of ``get_schedule_jump`` in the authors' code: from steps - 1 (noise) to -1 (data)."""
    jumps = dict.fromkeys(range(0, steps - jump, jump), resamplings - 1)
    t, times = steps, []
    while t >= 1:
        t -= 1
        times.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump):
                t += 1
                times.append(t)
    return [*times, -1]


@pytest.mark.parametrize(("steps", "resamplings", "jump"), [(9, 3, 1), (10, 4, 3), (12, 2, 4), (6, 1, 2)])
def test_the_times_are_those_of_the_authors_code(steps, resamplings, jump):
    visited: list[int] = []
    record = lambda t, z: visited.append(round((1 - t) * steps))  # noqa: E731
    nothing = torch.zeros(1, dtype=torch.bool)
    options = {"noise_fn": _noise, "z0": _noise(-2), "fill": nothing, "resamplings": resamplings, "jump": jump}
    repaint(made_up_model("flow", "v"), _noise(-1), time_grid(steps), record, **options)
    down = [index for before, index in pairwise(visited) if index > before]  # our way back up is one jump
    theirs = [steps - 1 - t for t in _authors_schedule(steps, resamplings, jump)]
    assert down == [index for before, index in pairwise(theirs) if index > before]


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_where_all_is_filled_and_no_step_repeated_it_is_ddpm_and_where_nothing_is_the_data_stay(path, prediction):
    model, z, times = made_up_model(path, prediction), _noise(-1), time_grid(5)
    options = {"noise_fn": _noise, "z0": _noise(-2)}
    alone = repaint(model, z, times, fill=torch.ones(SHAPE, dtype=torch.bool), resamplings=1, **options)
    assert torch.equal(alone, ddpm(model, z, times, noise_fn=_noise, variance="beta"))
    kept = repaint(model, z, times, fill=torch.zeros(1, dtype=torch.bool), resamplings=3, jump=2, **options)
    assert torch.equal(kept, options["z0"])


@each_path
def test_a_filled_gaussian_has_the_conditional_mean_and_covariance_and_only_with_resampling(path):
    factor = torch.tensor([[1, 0, 0], [0.8, 0.6, 0], [0.7, 0.3, 0.6]], dtype=torch.float64)
    data = Gaussian(torch.tensor([0.3, -0.5, 0.2], dtype=torch.float64), factor @ factor.T)
    fill, z0 = torch.tensor([False, True, True]), torch.tensor([1.8, 99.0, -99.0], dtype=torch.float64)
    mean, covariance = data.conditional(fill, z0)  # deviations of 0.60 and 0.67
    errors = {}
    for resamplings in (1, 12):
        drawn = repaint(
            data.model(path),
            _noise(-1, (COUNT, 3)),
            time_grid(48),
            noise_fn=lambda index: _noise(index, (COUNT, 3)),
            z0=z0.expand(COUNT, 3),
            fill=fill,
            resamplings=resamplings,
        )[:, fill]
        apart = torch.cov(drawn.T) / covariance - 1
        errors[resamplings] = float((drawn.mean(0) - mean).abs().max()), float(apart.abs().max())
    assert errors[1][0] > 0.5  # most of a deviation
    assert errors[1][1] > 0.5
    assert errors[12][0] < 0.15
    assert errors[12][1] < 0.25
    assert errors[12][0] < errors[1][0] / 4
