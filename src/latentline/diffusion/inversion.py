"""From data to the noise that it comes from: the sampler's ODE run upwards (Song et al., arXiv 2010.02502, section 4.3)."""

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Sampler


def invert(
    sampler: Sampler, model: DenoiserModel, z0: Tensor, times: Tensor, callback: Callback | None = None
) -> Tensor:
    """The state (B, ...) at t = 1 that ``sampler`` would bring to about ``z0``; sampling from it on the same grid returns the input.

    The better the solver the smaller the difference: ``heun`` closes the circle with error O(1 / steps^2), ``euler`` (= DDIM without noise)
    with O(1 / steps). Guidance above 1 makes both much larger: invert the unguided model.

    Args:
        sampler: ``euler``, ``heun`` or ``ddim`` with eta = 0; the exponential integrators cannot leave t = 0, where lambda is infinite.
        model: the network.
        z0: standardised latents (B, ...).
        times: (K + 1,), the grid of sampling, from 1 to 0.
        callback: sees each state.
    """
    return sampler(model, z0, times.flip(0), callback)
