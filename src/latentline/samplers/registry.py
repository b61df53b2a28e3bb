"""Name -> sampler, what it costs, and where it is of use."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.denoisers.guidance import Guidance
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.euler import euler
from latentline.diffusion.steps import DrawNoise, Sampler
from latentline.samplers.ddim import ddim
from latentline.samplers.ddpm import Variance, ddpm
from latentline.samplers.flow_sde import flow_sde
from latentline.samplers.heun import heun
from latentline.samplers.unipc import unipc


@dataclass(frozen=True)
class SamplerKnobs:
    """Every knob of every sampler; each takes its own (see its module) and none sees the others'."""

    eta: float = 0.0
    variance: Variance = "posterior"
    sigma_scale: float = 1.0
    diffusion: float = 0.5


@dataclass(frozen=True)
class SamplerKind:
    """One line of the registry.

    Args:
        fill_in: the sampler with its knobs and its noise.
        draws: whether it uses noise at all, with these knobs.
        evaluates_both_ends: whether it asks the network at the end of each step too, and so at t = 0.
        only_path: the one path it serves; None = all.
    """

    fill_in: Callable[[SamplerKnobs, DrawNoise], Sampler]
    draws: Callable[[SamplerKnobs], bool] = lambda knobs: False
    evaluates_both_ends: bool = False
    only_path: str | None = None


_KINDS: dict[str, SamplerKind] = {
    "euler": SamplerKind(lambda knobs, draw_noise: euler),
    "heun": SamplerKind(lambda knobs, draw_noise: heun, evaluates_both_ends=True),
    "dpmpp_2m": SamplerKind(lambda knobs, draw_noise: dpmpp_2m),
    "unipc": SamplerKind(lambda knobs, draw_noise: unipc),
    "ddim": SamplerKind(
        lambda knobs, draw_noise: partial(ddim, draw_noise=draw_noise, eta=knobs.eta),
        draws=lambda knobs: knobs.eta > 0,
    ),
    "ddpm": SamplerKind(
        lambda knobs, draw_noise: partial(ddpm, draw_noise=draw_noise, variance=knobs.variance, sigma_scale=knobs.sigma_scale),
        draws=lambda knobs: knobs.sigma_scale > 0,
    ),
    "flow_sde": SamplerKind(
        lambda knobs, draw_noise: partial(flow_sde, draw_noise=draw_noise, diffusion=knobs.diffusion),
        draws=lambda knobs: knobs.diffusion > 0,
        only_path="flow",
    ),
}
SAMPLERS = tuple(_KINDS)


def require_serves(name: str, path: str, prediction: str) -> None:
    """Refuse a sampler for a process (names of its path and prediction) that it cannot serve.

    Raises:
        UserError: one line with the reason and the remedy.
    """
    if name not in _KINDS:
        raise UserError(f"sampler: {name!r} is unknown; expected one of {', '.join(SAMPLERS)}")
    only = _KINDS[name].only_path
    if only not in (None, path):
        raise UserError(
            f"sampler: {name} is refused on path {path}: its noise level diffusion * t belongs to path {only}, where sigma = t; "
            f"expected path {only}; take ddpm, or ddim with eta above 0, for noise on this path"
        )
    if _KINDS[name].evaluates_both_ends and prediction == "x0":
        raise UserError(
            f"sampler: {name} is refused for prediction x0: it asks the network at t = 0 too, where x0 says nothing of the noise, and would "
            "leave half of the last step's noise in the sample; expected another prediction or sampler; take unipc or dpmpp_2m"
        )


def build_sampler(name: str, knobs: SamplerKnobs, draw_noise: DrawNoise) -> Sampler:
    """The sampler ``name`` (``sample.sampler``), ready to be called as ``sampler(model, z, times, on_step)``.

    Args:
        name: one of ``SAMPLERS``.
        knobs: of which it takes its own.
        draw_noise: step -> (B, ...) for the batch that it will be called with; never called where :func:`is_stochastic` says no.
    """
    return _KINDS[name].fill_in(knobs, draw_noise)


def is_stochastic(name: str, knobs: SamplerKnobs) -> bool:
    """Whether the sampler draws noise on its way, beyond the state it starts from."""
    return _KINDS[name].draws(knobs)


def evaluation_times(name: str, times: Tensor) -> Tensor:
    """The t of each evaluation of the model along ``times`` (K + 1,): (K,), or (2 K,) for a sampler that asks at both ends of a step."""
    return torch.cat([times[:-1], times[1:]]) if _KINDS[name].evaluates_both_ends else times[:-1]


def network_evaluations(name: str, times: Tensor, guidance: Guidance) -> int:
    """Network forwards per image, exactly: each guided evaluation is two, outside the guidance interval it is one."""
    return guidance.evaluations(evaluation_times(name, times))
