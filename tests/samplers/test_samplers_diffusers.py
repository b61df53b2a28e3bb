"""Every sampler steps as diffusers' scheduler of the same name does, on the same inputs."""

from itertools import pairwise

import diffusers
import pytest
import torch

from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.euler import euler
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.time_grid import discrete_grid, time_grid
from latentline.diffusion.unipc import unipc
from latentline.samplers.ddim import ddim
from latentline.samplers.ddpm import ddpm
from latentline.samplers.heun import heun
from support.exact_models import made_up_model

THEIR_NAMES = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample", "velocity": "flow_prediction"}
SCHEDULES = {"vp_linear": "linear", "vp_cosine": "squaredcos_cap_v2"}
vp_models = pytest.mark.parametrize(
    ("path", "prediction"),
    [("vp_linear", "epsilon"), ("vp_linear", "v"), ("vp_linear", "x0"), ("vp_cosine", "v"), ("vp_cosine", "x0")],
)


def _discrete(kind: type, path: str, prediction: str, steps: int, **options: object) -> diffusers.SchedulerMixin:
    scheduler = kind(
        beta_schedule=SCHEDULES[path], prediction_type=THEIR_NAMES[prediction], timestep_spacing="trailing", **options
    )
    scheduler.set_timesteps(steps)
    return scheduler


def _theirs(
    scheduler: diffusers.SchedulerMixin, model: DenoiserModel, z: torch.Tensor, count: int, **options: object
) -> torch.Tensor:
    """Take ``count`` steps from z, with our model evaluated at the discrete steps' times."""
    for timestep in scheduler.timesteps[:count]:
        output = model.output(z, z.new_full((len(z),), (float(timestep) + 1) / 1000))
        z = scheduler.step(output, timestep, z, **options).prev_sample
    return z


def _start() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


def _same_draws() -> tuple[torch.Generator, object]:
    """Their generator, and our draws from an equal one."""
    ours = torch.Generator().manual_seed(7)
    return torch.Generator().manual_seed(7), lambda step: torch.randn(4, 3, generator=ours)


@pytest.mark.parametrize(("variance", "theirs"), [("beta", "fixed_large"), ("posterior", "fixed_small")])
@pytest.mark.parametrize("steps", [10, 50])
@vp_models
def test_ddpm(path, prediction, steps, variance, theirs):
    """All steps but the last, where a strided ``fixed_large`` adds noise that nothing removes."""
    model = made_up_model(path, prediction)
    scheduler = _discrete(diffusers.DDPMScheduler, path, prediction, steps, variance_type=theirs, clip_sample=False)
    generator, noise_fn = _same_draws()
    expected = _theirs(scheduler, model, _start(), steps - 1, generator=generator)
    _close(ddpm(model, _start(), discrete_grid(steps)[:-1], noise_fn=noise_fn, variance=variance), expected)


@pytest.mark.parametrize(("variance", "theirs"), [("beta", "fixed_large"), ("posterior", "fixed_small")])
def test_ddpm_with_all_steps_to_the_end(variance, theirs):
    model = made_up_model("vp_linear", "epsilon")
    scheduler = _discrete(
        diffusers.DDPMScheduler, "vp_linear", "epsilon", 1000, variance_type=theirs, clip_sample=False
    )
    generator, noise_fn = _same_draws()
    expected = _theirs(scheduler, model, _start(), 1000, generator=generator)
    found = ddpm(model, _start(), discrete_grid(1000), noise_fn=noise_fn, variance=variance)
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [10, 50])
@vp_models
def test_ddim(path, prediction, steps, eta):
    model = made_up_model(path, prediction)
    scheduler = _discrete(diffusers.DDIMScheduler, path, prediction, steps, clip_sample=False)
    generator, noise_fn = _same_draws()
    expected = _theirs(scheduler, model, _start(), steps, eta=eta, generator=generator)
    _close(ddim(model, _start(), discrete_grid(steps), noise_fn=noise_fn, eta=eta), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(dpmpp_2m, "DPMSolverMultistepScheduler"), (unipc, "UniPCMultistepScheduler")]
)
@pytest.mark.parametrize("steps", [4, 10, 20])
@vp_models
def test_multistep_samplers(path, prediction, steps, ours, theirs):
    model = made_up_model(path, prediction)
    scheduler = _discrete(getattr(diffusers, theirs), path, prediction, steps)
    _close(ours(model, _start(), discrete_grid(steps)), _theirs(scheduler, model, _start(), steps))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(dpmpp_2m, "DPMSolverMultistepScheduler"), (unipc, "UniPCMultistepScheduler")]
)
@pytest.mark.parametrize("steps", [4, 10, 20])
def test_multistep_samplers_on_the_straight_path(steps, ours, theirs):
    model = made_up_model("flow", "velocity")
    scheduler = getattr(diffusers, theirs)(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=2.0)
    scheduler.set_timesteps(steps)
    z = _start()
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        z = scheduler.step(model.output(z, sigma.expand(4)), timestep, z).prev_sample
    _close(ours(model, _start(), scheduler.sigmas), z)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler(shift):
    steps, model = 6, made_up_model("flow", "velocity")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)])
    torch.testing.assert_close(time_grid(steps, shift).float(), scheduler.sigmas)
    z = _start()
    for sigma, timestep in zip(scheduler.sigmas, scheduler.timesteps, strict=False):
        z = scheduler.step(model.output(z, sigma.expand(4)), timestep, z).prev_sample
    _close(euler(model, _start(), time_grid(steps, shift)), z)


def test_heun():
    """All steps but the last, where diffusers takes Euler's."""
    model = made_up_model("flow", "velocity")
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(6)
    times = scheduler.sigmas.unique().flip(0)[:-1]
    z = _start()
    for now, after in pairwise(times):
        for sigma in (now, after):
            z = scheduler.step(
                model.output(z, sigma.expand(4)), scheduler.timesteps[scheduler.step_index or 0], z
            ).prev_sample
    _close(heun(model, _start(), times), z)
