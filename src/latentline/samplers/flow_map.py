"""A flow map as a sampler: one evaluation crosses a step of any length that the network has learnt.

Geng et al., arXiv 2505.13447, eq. 12; see :mod:`latentline.diffusion.flow_map`.
"""

from torch import Tensor

from latentline.diffusion.process import DenoiserModel
from latentline.diffusion.steps import Callback, Times, integrate


def flow_map(model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
    """Apply z_r = z_t - (t - r) u(z_t, r, t) along falling ``times``: see :class:`steps.Sampler`.

    Raises:
        ValueError: the model has no average velocities.
    """
    average = model.average
    if average is None:
        raise ValueError("model must have average velocities for flow_map; take one with denoiser.objective flow_map")

    def step(_: int, z: Tensor, now: float, after: float) -> Tensor:
        t, r = (z.new_full((len(z),), time) for time in (now, after))
        return z - (now - after) * average(z, t, r)

    return integrate(step, z, times, callback)
