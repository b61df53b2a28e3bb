"""Ancestral sampling (Ho et al., arXiv 2006.11239, algorithm 2), on any grid and any path."""

from typing import Literal

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, NoiseFn, Times, integrate
from latentline.samplers.posterior import posterior

Variance = Literal["beta", "posterior"]


def ddpm(
    model: DenoiserModel,
    z: Tensor,
    times: Times,
    callback: Callback | None = None,
    *,
    noise_fn: NoiseFn,
    variance: Variance = "posterior",
    sigma_scale: float = 1.0,
) -> Tensor:
    """Draw each state from the posterior at the estimated z0; the last step adds no noise.

    Args:
        model: the network.
        z: (B, ...).
        times: (K + 1,), falling.
        callback: receives each state.
        noise_fn: step -> (B, ...).
        variance: of each step. ``beta`` is the variance that the forward step added, exact for data from N(0, I);
            ``posterior`` is exact for data at one point (section 3.2). The two differ little on fine grids.
        sigma_scale: multiplies the standard deviation of each step; below 1 = less varied and smoother samples.
    """

    def step(index: int, z: Tensor, now: float, after: float) -> Tensor:
        here, end = model.predict_at(z, now), model.path.at_time(after)
        q = posterior(model.path.at_time(now), end)
        mean = q.of_z * z + q.of_z0 * here.z0
        if after == 0:
            return mean
        deviation = (q.beta if variance == "beta" else q.variance).sqrt()
        return mean + sigma_scale * deviation * noise_fn(index)

    return integrate(step, z, times, callback)
