"""Inversion: from data to noise, by the sampler's ODE run upwards (Song et al., arXiv 2010.02502, section 4.3)."""

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Sampler, Times


def invert(
    sampler: Sampler, model: DenoiserModel, z0: Tensor, times: Times, callback: Callback | None = None
) -> Tensor:
    """Return the state (B, ...) at t = 1 from which ``sampler`` returns to about ``z0`` on the same grid.

    The better the solver, the smaller the difference: O(1 / steps^2) for ``heun``, O(1 / steps) for ``euler`` (= DDIM
    without noise). Guidance above 1 makes both much larger, so invert the unguided model.

    Args:
        sampler: ``euler``, ``heun`` or ``ddim`` with eta = 0. Exponential integrators cannot leave t = 0, where lambda
            is infinite.
        model: the network.
        z0: standardised latents (B, ...).
        times: (K + 1,), the grid of sampling, from 1 to 0.
        callback: receives each state.
    """
    return sampler(model, z0, [*times][::-1], callback)
