"""Inversion closes the circle with sampling, at the solver's order, on every path."""

from functools import partial

import pytest
import torch

from latentline.core.seeds import generator
from latentline.diffusion.euler import euler
from latentline.diffusion.inversion import invert
from latentline.diffusion.process import PATHS
from latentline.diffusion.time_grid import time_grid
from latentline.samplers.ddim import ddim
from latentline.samplers.heun import heun
from support.exact_models import COMBINATIONS, gaussian, mixture

SAMPLERS = {"euler": euler, "heun": heun, "ddim": partial(ddim, noise_fn=lambda step: pytest.fail("noise was drawn"))}


def _data(count: int = 40) -> torch.Tensor:
    return mixture().draw(count, generator(0, "data"))


@pytest.mark.parametrize(("name", "tolerance"), [("euler", 0.06), ("ddim", 0.06), ("heun", 2e-3)])
@pytest.mark.parametrize("path", PATHS)
def test_sampling_from_the_inverted_noise_returns_the_input(path, name, tolerance):
    model, z0, times = mixture().model(path), _data(), time_grid(200)
    noise = invert(SAMPLERS[name], model, z0, times)
    torch.testing.assert_close(SAMPLERS[name](model, noise, times), z0, atol=tolerance, rtol=0)
    assert (noise - z0).abs().mean() > 0.1


@pytest.mark.parametrize("path", PATHS)
def test_the_circle_closes_at_the_solvers_order(path):
    model, z0 = mixture().model(path), _data()

    def gap(name: str, steps: int) -> float:
        times = time_grid(steps)
        return (
            (SAMPLERS[name](model, invert(SAMPLERS[name], model, z0, times), times) - z0).square().mean().sqrt().item()
        )

    assert 1.6 < gap("euler", 50) / gap("euler", 100) < 2.4
    assert gap("heun", 50) / gap("heun", 100) > 3


@pytest.mark.parametrize(("path", "prediction"), COMBINATIONS)
def test_the_noise_of_gaussian_data_is_given_by_the_flow_map(path, prediction):
    data = gaussian(2)
    z0 = data.draw(30, generator(0, "data"))
    end = PATHS[path].at_time(1.0)
    deviation = ((end.alpha * 0.4) ** 2 + end.sigma**2).sqrt()
    expected = end.alpha * data.means + deviation * (z0 - data.means) / 0.4
    torch.testing.assert_close(
        invert(heun, data.model(path, prediction), z0, time_grid(200)), expected, atol=5e-3, rtol=0
    )


def test_the_callback_receives_every_time_on_the_way_up():
    times = []
    invert(euler, mixture().model("flow"), _data(), time_grid(4), lambda t, z: times.append(t))
    assert times == [0.0, 0.25, 0.5, 0.75, 1.0]
