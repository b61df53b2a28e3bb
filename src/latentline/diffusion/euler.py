"""Euler's method: first order, one evaluation per step.

On every path it equals DDIM without noise (Song et al., arXiv 2010.02502, eq. 12).
"""

from torch import Tensor

from latentline.diffusion.path import increments
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Times, integrate


def euler(model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
    """Integrate dz = z0 d(alpha) + noise d(sigma) along ``times``: see :class:`steps.Sampler`."""

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        here = model.predict_at(z, now)
        d_alpha, d_sigma = increments(model.path.at_time(now), model.path.at_time(after))
        return z + d_alpha * here.z0 + d_sigma * here.noise

    return integrate(step, z, times, callback)
