"""Euler's method: first order, one evaluation per step. On every path it is DDIM without noise (Song et al., arXiv 2010.02502, eq. 12)."""

from torch import Tensor

from latentline.diffusion.path import increments
from latentline.diffusion.process import Model
from latentline.diffusion.steps import OnStep, walk


def euler(model: Model, z: Tensor, times: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate dz = z0 d(alpha) + noise d(sigma) along ``times`` (see the package's docstring)."""

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        here = model.at(z, now)
        d_alpha, d_sigma = increments(model.path.at(now), model.path.at(after))
        return z + d_alpha * here.z0 + d_sigma * here.noise

    return walk(step, z, times, on_step)
