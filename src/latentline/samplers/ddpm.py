"""Ancestral sampling (Ho et al., arXiv 2006.11239, algorithm 2), on any grid and any path."""

from typing import Literal

from torch import Tensor

from latentline.diffusion.process import Model
from latentline.diffusion.steps import DrawNoise, OnStep, walk
from latentline.samplers.posterior import posterior

Variance = Literal["beta", "posterior"]


def ddpm(
    model: Model,
    z: Tensor,
    times: Tensor,
    on_step: OnStep | None = None,
    *,
    draw_noise: DrawNoise,
    variance: Variance = "posterior",
    sigma_scale: float = 1.0,
) -> Tensor:
    """Draw each state from the posterior at the estimated z0 (see the package's docstring); the last step draws nothing.

    Args:
        model: the network.
        z: (B, ...).
        times: (K + 1,), falling.
        on_step: sees each state.
        draw_noise: step -> (B, ...).
        variance: of each step: ``beta``, what the forward step added, right where the data are N(0, I); or ``posterior``, right where the
            data are a point (section 3.2). The two differ little on fine grids.
        sigma_scale: multiplies the standard deviation of each step; below 1 = less varied and smoother samples.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        here, end = model.at(z, now), model.path.at(after)
        q = posterior(model.path.at(now), end)
        mean = q.of_z * z + q.of_z0 * here.z0
        if end.sigma == 0:
            return mean
        deviation = (q.beta if variance == "beta" else q.variance).sqrt()
        return mean + sigma_scale * deviation * draw_noise(index)

    return walk(step, z, times, on_step)
