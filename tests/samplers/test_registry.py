"""The registry counts network evaluations exactly, and refuses samplers for processes that they cannot serve."""

import re

import pytest
import torch

from latentline.core.condition import Condition
from latentline.core.errors import UserError
from latentline.denoisers.guidance import Guidance, guided_model
from latentline.diffusion.process import DenoiserModel, build_process
from latentline.diffusion.time_grid import time_grid
from latentline.diffusion.unipc import unipc
from latentline.samplers.heun import heun
from latentline.samplers.registry import (
    SAMPLERS,
    SamplerOptions,
    build_sampler,
    evaluation_times,
    is_stochastic,
    network_evaluations,
    require_serves,
)
from support.exact_models import COMBINATIONS

GUIDANCES = [
    Guidance(),
    Guidance(0.0),
    Guidance(2.0),
    Guidance(2.0, start=0.3, end=0.8),
    Guidance(0.0, start=0.3, end=0.8),
    Guidance(2.0, 0.5, 0.5),
]


class _CountingNetwork:
    """Zeros; it counts the rows and lists the times of all calls."""

    def __init__(self) -> None:
        self.rows, self.times = 0, []

    def __call__(self, z: torch.Tensor, t: torch.Tensor, condition: Condition) -> torch.Tensor:
        self.rows += len(z)
        self.times.append(t[0].item())
        return torch.zeros_like(z)


@pytest.mark.parametrize("guidance", GUIDANCES, ids=str)
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "flow_map"])
def test_network_evaluations_are_counted_as_they_are(name, guidance):
    network, times, z = _CountingNetwork(), time_grid(10), torch.randn(3, 2)
    model = guided_model(network, build_process("flow", "velocity"), Condition(torch.ones(3, 4)), guidance)
    build_sampler(name, SamplerOptions(eta=1.0), lambda step: torch.zeros(3, 2))(model, z, times)
    assert network.rows == 3 * network_evaluations(name, times, guidance)
    assert sorted(network.times) == evaluation_times(name, times).sort().values.float().tolist()


@pytest.mark.parametrize(("name", "per_step"), [("heun", 2), *((name, 1) for name in SAMPLERS if name != "heun")])
def test_unguided_a_step_costs_one_evaluation_and_heuns_two(name, per_step):
    assert network_evaluations(name, time_grid(7), Guidance()) == 7 * per_step


def _refusal(name: str, path: str, prediction: str) -> str:
    try:
        require_serves(name, path, prediction)
    except UserError as error:
        return str(error)
    return ""


def test_every_sampler_serves_every_process_but_for_three_reasons():
    for path, prediction in COMBINATIONS:
        for name in SAMPLERS:
            refusal = _refusal(name, path, prediction)
            others = ", ".join(other for other in SAMPLERS if not _refusal(other, path, prediction))
            if name == "flow_map":
                expected = f"sampler (flow_map) must be one of {others} for a denoiser without average "
            elif name == "flow_sde" and path != "flow":
                expected = f"sampler (flow_sde) must be one of {others} on path {path}, since "
            elif name == "heun" and prediction == "x0":
                expected = f"sampler (heun) must be one of {others} for prediction x0, which "
            else:
                expected = ""
            assert re.fullmatch(rf"{re.escape(expected)}[^;]+; set it to [^;]+" if expected else "", refusal), refusal


def test_heun_would_leave_half_of_the_last_noise_where_it_is_refused():
    """With all data at one point, the exact x0 network is constant."""
    noise, target = torch.randn(2, 5, 2, dtype=torch.float64)
    model = DenoiserModel(build_process("flow", "x0"), lambda z_t, t: target)
    torch.testing.assert_close(heun(model, noise, time_grid(10)), target + 0.05 * noise)
    torch.testing.assert_close(unipc(model, noise, time_grid(10)), target)


def test_flow_map_serves_a_network_of_averages_at_one_evaluation_per_step():
    require_serves("flow_map", "flow", "velocity", averages=True)
    assert all(network_evaluations("flow_map", time_grid(2), guidance) == 2 for guidance in GUIDANCES)


def test_an_unknown_sampler_is_refused():
    assert _refusal("plms", "flow", "velocity") == f"sampler (plms) must be one of {', '.join(SAMPLERS)}; correct it"


def test_the_samplers_that_add_noise_are_marked_as_stochastic():
    quiet, noisy = SamplerOptions(eta=0.0, sigma_scale=0.0, diffusion=0.0), SamplerOptions(eta=0.5)
    assert {name for name in SAMPLERS if is_stochastic(name, quiet)} == set()
    assert {name for name in SAMPLERS if is_stochastic(name, noisy)} == {"ddim", "ddpm", "flow_sde"}
