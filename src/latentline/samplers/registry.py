"""Registry of samplers: name -> sampler, its cost, and the processes that it serves."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.denoisers.guidance import Guidance
from latentline.diffusion.dpmpp_2m import dpmpp_2m
from latentline.diffusion.euler import euler
from latentline.diffusion.steps import NoiseFn, Sampler
from latentline.diffusion.unipc import unipc
from latentline.samplers.ddim import ddim
from latentline.samplers.ddpm import Variance, ddpm
from latentline.samplers.flow_map import flow_map
from latentline.samplers.flow_sde import flow_sde
from latentline.samplers.heun import heun


@dataclass(frozen=True)
class SamplerOptions:
    """The options of all samplers; each uses its own (see its module)."""

    eta: float = 0.0
    variance: Variance = "posterior"
    sigma_scale: float = 1.0
    diffusion: float = 0.5


@dataclass(frozen=True)
class SamplerKind:
    """One line of the registry.

    Args:
        build: binds the sampler's options and its noise.
        is_stochastic: whether the sampler adds noise, with these options.
        evaluates_both_ends: whether it evaluates the network at the end of each step too, and so at t = 0.
        only_path: the one path that it serves; None = all.
        uses_averages: whether it needs a network of average velocities, which guides itself.
    """

    build: Callable[[SamplerOptions, NoiseFn], Sampler]
    is_stochastic: Callable[[SamplerOptions], bool] = lambda options: False
    evaluates_both_ends: bool = False
    only_path: str | None = None
    uses_averages: bool = False

    def serves(self, path: str, prediction: str, averages: bool = False) -> bool:
        """Return whether it can sample with a network of this path and prediction, and with or without averages."""
        if self.uses_averages and not averages:
            return False
        return self.only_path in (None, path) and not (self.evaluates_both_ends and prediction == "x0")


_KINDS: dict[str, SamplerKind] = {
    "euler": SamplerKind(lambda options, noise_fn: euler),
    "heun": SamplerKind(lambda options, noise_fn: heun, evaluates_both_ends=True),
    "dpmpp_2m": SamplerKind(lambda options, noise_fn: dpmpp_2m),
    "unipc": SamplerKind(lambda options, noise_fn: unipc),
    "ddim": SamplerKind(
        lambda options, noise_fn: partial(ddim, noise_fn=noise_fn, eta=options.eta),
        is_stochastic=lambda options: options.eta > 0,
    ),
    "ddpm": SamplerKind(
        lambda options, noise_fn: partial(
            ddpm, noise_fn=noise_fn, variance=options.variance, sigma_scale=options.sigma_scale
        ),
        is_stochastic=lambda options: options.sigma_scale > 0,
    ),
    "flow_sde": SamplerKind(
        lambda options, noise_fn: partial(flow_sde, noise_fn=noise_fn, diffusion=options.diffusion),
        is_stochastic=lambda options: options.diffusion > 0,
        only_path="flow",
    ),
    "flow_map": SamplerKind(lambda options, noise_fn: flow_map, uses_averages=True),
}
SAMPLERS = tuple(_KINDS)


def require_serves(name: str, path: str, prediction: str, *, averages: bool = False) -> None:
    """Refuse a sampler for a process (names of its path and prediction) that it cannot serve.

    ``averages`` says whether its network has learnt average velocities.

    Raises:
        UserError: one line with the reason and the remedy.
    """
    if name not in _KINDS:
        raise UserError(f"sampler ({name}) must be one of {', '.join(SAMPLERS)}; correct it")
    kind = _KINDS[name]
    if kind.serves(path, prediction, averages):
        return
    serving = ", ".join(other for other in SAMPLERS if _KINDS[other].serves(path, prediction, averages))
    if kind.uses_averages and not averages:
        raise UserError(
            f"sampler ({name}) must be one of {serving} for a denoiser without average velocities; "
            "set it to unipc, or denoiser.objective to flow_map"
        )
    if kind.only_path not in (None, path):
        raise UserError(
            f"sampler ({name}) must be one of {serving} on path {path}, since its noise level diffusion * t needs "
            f"sigma = t, as on path {kind.only_path}; set it to ddpm, or to ddim with eta above 0, for noisy steps"
        )
    # Half of the last step's noise would stay in the sample.
    raise UserError(
        f"sampler ({name}) must be one of {serving} for prediction {prediction}, which determines no noise at t = 0, "
        f"where {name} evaluates the network too; set it to unipc or dpmpp_2m"
    )


def build_sampler(name: str, options: SamplerOptions, noise_fn: NoiseFn) -> Sampler:
    """Return the sampler ``name`` (``sample.sampler``), to be called as ``sampler(model, z, times, callback)``.

    Args:
        name: one of ``SAMPLERS``.
        options: of all samplers.
        noise_fn: step -> (B, ...) for the batch of that call; without effect unless :func:`is_stochastic`.
    """
    return _KINDS[name].build(options, noise_fn)


def is_stochastic(name: str, options: SamplerOptions) -> bool:
    """Return whether the sampler adds noise on its way, beyond the state that it starts from."""
    return _KINDS[name].is_stochastic(options)


def evaluation_times(name: str, times: Tensor) -> Tensor:
    """Return the t of each evaluation of the model along ``times`` (K + 1,).

    The result is (K,), or (2 K,) for a sampler that evaluates the model at both ends of a step.
    """
    return torch.cat([times[:-1], times[1:]]) if _KINDS[name].evaluates_both_ends else times[:-1]


def network_evaluations(name: str, times: Tensor, guidance: Guidance) -> int:
    """Return the exact number of network forwards per image: two for a guided evaluation, else one."""
    at = evaluation_times(name, times)
    return len(at) if _KINDS[name].uses_averages else guidance.evaluations(at)
