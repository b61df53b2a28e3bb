"""Heun's method: second order, two evaluations per step (Karras et al., arXiv 2206.00364, algorithm 1).

Unlike there, the last step has its second evaluation too, instead of being Euler's. A network that predicts v, epsilon
or the velocity can be evaluated at t = 0. The evaluation is worth more there than in a further step, both in the tests
and with the trained network (``docs/diffusion.md``). A prediction of x0 determines no noise at t = 0, so
``registry.require_serves`` refuses it.
"""

from torch import Tensor

from latentline.diffusion.path import increments
from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Times, integrate


def heun(model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
    """Integrate dz = z0 d(alpha) + noise d(sigma) along ``times``: see :class:`steps.Sampler`."""

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        d_alpha, d_sigma = increments(model.path.at_time(now), model.path.at_time(after))
        here = model.predict_at(z, now)
        there = model.predict_at(z + d_alpha * here.z0 + d_sigma * here.noise, after)
        return z + d_alpha * (here.z0 + there.z0) / 2 + d_sigma * (here.noise + there.noise) / 2

    return integrate(step, z, times, callback)
