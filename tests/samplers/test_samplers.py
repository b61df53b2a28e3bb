"""Samplers solve ODEs at their order, and recover mixtures of Gaussians with exact scores."""

import math
from functools import cache

import pytest
import scipy.stats
import torch

from latentline.core.seeds import generator
from latentline.diffusion.euler import euler
from latentline.diffusion.process import PATHS, DenoiserModel, build_process
from latentline.diffusion.steps import NoiseFn, Sampler
from latentline.diffusion.time_grid import TIME_GRIDS, build_time_grid, time_grid
from latentline.samplers.heun import heun
from latentline.samplers.registry import SAMPLERS as ALL_SAMPLERS
from latentline.samplers.registry import SamplerOptions, build_sampler, is_stochastic
from support.exact_models import COMBINATIONS, Mixture, gaussian, made_up_model, mixture

SAMPLERS = [name for name in ALL_SAMPLERS if name != "flow_map"]  # which needs average velocities
ODE_SAMPLERS = ["euler", "heun", "ddim", "dpmpp_2m", "unipc"]
BOTH = [
    (path, name)
    for path in PATHS
    for name in SAMPLERS
    if (path, name) not in {("vp_linear", "flow_sde"), ("vp_cosine", "flow_sde")}
]
each_served = pytest.mark.parametrize(("path", "name"), BOTH)
each_ode = pytest.mark.parametrize("name", ODE_SAMPLERS)
each_path = pytest.mark.parametrize("path", PATHS)


def _draw(shape: torch.Size, *names: str | int) -> NoiseFn:
    return lambda step: torch.randn(shape, dtype=torch.float64, generator=generator(0, "step", *names, step))


def _sampler(name: str, z: torch.Tensor, **params: float | str) -> Sampler:
    return build_sampler(name, SamplerOptions(**params), _draw(z.shape))


def _noise(count: int = 200, dimensions: int = 1) -> torch.Tensor:
    return torch.randn(count, dimensions, dtype=torch.float64, generator=generator(0, count))


def _flow_map(z: torch.Tensor, data: Mixture, path: str) -> torch.Tensor:
    """Return where the ODE takes z from t = 1: for one Gaussian, (z - mean) / deviation is constant along it."""
    end = PATHS[path].at_time(1.0)
    deviation = ((end.alpha * data.deviations) ** 2 + end.sigma**2).sqrt()
    return data.means + data.deviations * (z - end.alpha * data.means) / deviation


@pytest.mark.parametrize(
    ("name", "tolerance"), [("euler", 0.03), ("ddim", 0.03), ("heun", 1e-3), ("dpmpp_2m", 0.01), ("unipc", 0.01)]
)
@each_path
def test_a_gaussian_is_transported_along_the_flow_map(path, name, tolerance):
    data, z = gaussian(), _noise()
    found = _sampler(name, z)(data.model(path), z, time_grid(200))
    torch.testing.assert_close(found, _flow_map(z, data, path), atol=tolerance, rtol=0)


def _inner_grid(steps: int) -> torch.Tensor:
    return torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)


@cache
def _inner_solution(path: str) -> tuple[DenoiserModel, torch.Tensor, torch.Tensor]:
    model, z = mixture().model(path), _noise(30, 2)
    return model, z, heun(model, z, _inner_grid(600))


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 3)])
@each_path
def test_the_error_falls_at_the_samplers_order(path, name, order):
    """Between t = 0.9 and 0.1, since lambda is infinite at the ends, which other tests cover."""
    model, z, solution = _inner_solution(path)
    counts = [24, 48, 96]
    errors = [
        (_sampler(name, z)(model, z, _inner_grid(steps)) - solution).square().mean().sqrt().item() for steps in counts
    ]
    slope = scipy.stats.linregress([math.log(steps) for steps in counts], [math.log(error) for error in errors]).slope
    assert abs(slope + order) < 0.25, errors


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2)])
@each_path
def test_doubling_the_steps_from_end_to_end_divides_the_error_by_two_to_the_order(path, name, order):
    data, z = gaussian(), _noise()
    errors = [
        (_sampler(name, z)(data.model(path), z, time_grid(steps)) - _flow_map(z, data, path)).abs().max()
        for steps in (32, 64)
    ]
    assert 0.8 * 2**order < errors[0] / errors[1] < 1.2 * 2**order


@pytest.mark.parametrize("steps", [3, 6, 12])
@each_path
def test_heuns_second_evaluation_at_the_end_is_worth_more_than_a_further_step(path, steps):
    """Karras et al. end with Euler's method instead; one step more than ours is then still one evaluation more."""
    model, z = mixture().model(path), _noise(100, 2)
    solution = heun(model, z, time_grid(200))
    grid = time_grid(steps + 1)
    theirs = euler(model, heun(model, z, grid[:-1]), grid[-2:])
    errors = [(found - solution).square().mean() for found in (heun(model, z, time_grid(steps)), theirs)]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.parametrize("evaluations", [8, 10])
@each_path
def test_with_few_evaluations_unipc_lands_nearest_on_average(path, evaluations):
    """Over mixtures: on a single one neighbours often swap."""
    steps = {"euler": evaluations, "heun": evaluations // 2, "dpmpp_2m": evaluations, "unipc": evaluations}
    errors = dict.fromkeys(steps, 0.0)
    for index in range(6):
        draw = generator(index, "mixture")
        means = 0.9 * torch.randn(10, 16, generator=draw, dtype=torch.float64)
        model = Mixture(means, 0.1 + 0.3 * torch.rand(10, generator=draw, dtype=torch.float64)).model(path)
        z = _noise(30, 16)
        solution = heun(model, z, time_grid(100))
        for name, count in steps.items():
            errors[name] += (_sampler(name, z)(model, z, time_grid(count)) - solution).square().mean().sqrt().item()
    assert min(errors, key=errors.__getitem__) == "unipc", errors


def _distance(found: torch.Tensor, data: Mixture) -> float:
    """Return the Kolmogorov-Smirnov distance between values (N, 1) and the mixture."""

    components = list(zip(data.means[:, 0], data.deviations, strict=True))

    def cdf(x):
        return sum(scipy.stats.norm.cdf(x, mean, deviation) for mean, deviation in components) / len(components)

    return float(scipy.stats.kstest(found[:, 0].numpy(), cdf).statistic)


@pytest.mark.parametrize("params", [{}, {"eta": 1.0, "variance": "beta", "diffusion": 1.5}], ids=["defaults", "noisy"])
@each_served
def test_every_sampler_recovers_the_mixture(path, name, params):
    data = Mixture(torch.tensor([[-1.2], [0.9]], dtype=torch.float64), torch.tensor([0.3, 0.6], dtype=torch.float64))
    z = _noise(8000)
    found = _sampler(name, z, **params)(data.model(path), z, time_grid(100))
    assert _distance(found, data) < 0.03
    assert _distance(z, data) > 0.15


@each_served
@pytest.mark.parametrize("kind", TIME_GRIDS)
def test_every_combination_is_finite_in_float32_from_end_to_end(path, name, kind):
    for prediction in (prediction for where, prediction in COMBINATIONS if where == path):
        z = _noise(6, 3).float()
        sampler = build_sampler(name, SamplerOptions(eta=0.5), lambda step: torch.ones(6, 3))
        for steps in (1, 2, 5):
            found = sampler(made_up_model(path, prediction), z, build_time_grid(kind, steps, PATHS[path], 2.0))
            assert found.dtype == torch.float32
            assert found.isfinite().all()


@each_path
def test_ddim_without_noise_is_euler(path):
    z = _noise(20, 3)
    model = made_up_model(path, "v")
    torch.testing.assert_close(
        _sampler("ddim", z)(model, z, time_grid(7)), _sampler("euler", z)(model, z, time_grid(7))
    )


@each_path
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(path):
    z = _noise(20, 3)
    model = made_up_model(path, "v")
    ancestral = _sampler("ddpm", z, variance="posterior")(model, z, time_grid(9))
    torch.testing.assert_close(_sampler("ddim", z, eta=1.0)(model, z, time_grid(9)), ancestral)


def test_flow_sde_without_diffusion_is_euler():
    z, model = _noise(20, 3), made_up_model("flow", "velocity")
    torch.testing.assert_close(
        _sampler("flow_sde", z, diffusion=0.0)(model, z, time_grid(7)), _sampler("euler", z)(model, z, time_grid(7))
    )


@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_sigma_scale_multiplies_the_noise_of_each_step(variance):
    z, model, times = _noise(20, 3), made_up_model("vp_linear", "epsilon"), time_grid(4)[:2]
    full, part, none = (
        _sampler("ddpm", z, variance=variance, sigma_scale=scale)(model, z, times) for scale in (1.0, 0.95, 0.0)
    )
    torch.testing.assert_close(part - none, 0.95 * (full - none))
    assert (full - none).abs().min() > 0


@pytest.mark.parametrize("diffusion", [0.5, 1.5])
def test_flow_sde_has_the_marginals_of_the_path_at_every_time(diffusion):
    data, z = gaussian(), _noise(20_000)
    states: dict[float, torch.Tensor] = {}
    _sampler("flow_sde", z, diffusion=diffusion)(
        data.model("flow"), z, time_grid(100), lambda t, state: states.update({round(t, 6): state})
    )
    for t in (0.75, 0.5, 0.25, 0.1, 0.0):
        assert abs(states[t].mean().item() - (1 - t) * 1.5) < 0.02
        assert abs(states[t].std().item() - math.hypot((1 - t) * 0.4, t)) < 0.02


def test_flow_sde_forgets_where_it_started():
    data, z = gaussian(), _noise(2000)
    ends = [_sampler("flow_sde", z, diffusion=level)(data.model("flow"), z, time_grid(50)) for level in (0.0, 1.5)]
    alike = [torch.corrcoef(torch.stack([z[:, 0], end[:, 0]]))[0, 1].item() for end in ends]
    assert alike[0] > 0.999
    assert alike[1] < 0.7


@each_ode
def test_a_straight_field_is_followed_exactly_on_any_grid(name):
    z, target = _noise(10, 2).chunk(2)
    model = DenoiserModel(build_process("flow", "velocity"), lambda z_t, t: z - target)
    for times in (time_grid(1), time_grid(5, shift=3.0), torch.tensor([1.0, 0.9, 0.1, 0.0])):
        torch.testing.assert_close(_sampler(name, z)(model, z, times), target)


@each_served
def test_the_callback_receives_every_state_from_the_start_to_the_result(path, name):
    states = []
    z = _noise(3)
    result = _sampler(name, z)(gaussian().model(path), z, time_grid(4), lambda t, state: states.append((t, state)))
    assert [t for t, _ in states] == time_grid(4).tolist()
    assert torch.equal(states[0][1], z)
    assert torch.equal(states[-1][1], result)


@each_served
def test_a_sampler_leaves_its_input_alone_and_gives_the_same_twice(path, name):
    z = _noise(5)
    kept, sampler = z.clone(), _sampler(name, z, eta=0.5)
    first, second = (sampler(gaussian().model(path), z, time_grid(3)) for _ in range(2))
    assert torch.equal(z, kept)
    assert torch.equal(first, second)


@each_served
def test_an_image_does_not_depend_on_its_batch(path, name):
    """With noise drawn for each image from its index, as the pipeline does."""
    z, model = _noise(6, 3), made_up_model(path, "v")

    def run(indices: list[int]) -> torch.Tensor:
        def draw(step: int) -> torch.Tensor:
            return torch.stack(
                [torch.randn(3, generator=generator(0, index, step), dtype=torch.float64) for index in indices]
            )

        return build_sampler(name, SamplerOptions(eta=0.7), draw)(model, z[indices], time_grid(5))

    torch.testing.assert_close(
        torch.cat([run([0, 1]), run([2, 3, 4]), run([5])]), run([0, 1, 2, 3, 4, 5]), atol=1e-12, rtol=1e-12
    )


@each_served
@pytest.mark.parametrize("level", [0.0, 0.6])
def test_noise_is_drawn_once_per_step_but_the_last_and_only_by_stochastic_samplers(path, name, level):
    z, drawn = _noise(3), []
    params = SamplerOptions(eta=level, sigma_scale=level, diffusion=level)

    def draw(step: int) -> torch.Tensor:
        drawn.append(step)
        return torch.zeros_like(z)

    build_sampler(name, params, draw)(gaussian().model(path), z, time_grid(5))
    if is_stochastic(name, params):
        assert drawn == [0, 1, 2, 3]
    else:
        assert drawn == [] or name in ("ddpm", "flow_sde")  # drawn, and multiplied by 0
