"""DDIM (Song et al., arXiv 2010.02502), on any grid and any path."""

from torch import Tensor

from latentline.diffusion.process import Model
from latentline.diffusion.steps import DrawNoise, OnStep, walk
from latentline.samplers.posterior import posterior


def ddim(model: Model, z: Tensor, times: Tensor, on_step: OnStep | None = None, *, draw_noise: DrawNoise, eta: float = 0.0) -> Tensor:
    """Step by eq. 12 (see the package's docstring); without noise for eta = 0 and in the last step.

    Args:
        model: the network.
        z: (B, ...).
        times: (K + 1,), falling unless eta = 0.
        on_step: sees each state.
        draw_noise: step -> (B, ...).
        eta: share of the ancestral step's standard deviation (eq. 16): 0 = the ODE (``euler``), 1 = ``ddpm`` with the posterior variance.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        here, end = model.at(z, now), model.path.at(after)
        if eta == 0 or end.sigma == 0:
            return end.alpha * here.z0 + end.sigma * here.noise
        variance = eta**2 * posterior(model.path.at(now), end).variance
        direction = (end.sigma.square() - variance).sqrt()
        return end.alpha * here.z0 + direction * here.noise + variance.sqrt() * draw_noise(index)

    return walk(step, z, times, on_step)
