"""Heun's method: second order, two evaluations per step (Karras et al., arXiv 2206.00364, algorithm 1).

Unlike there, the last step has its second evaluation too: a velocity network is well defined at t = 0.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from latentline.diffusion.guidance import VelocityField

EVALUATIONS_PER_STEP = 2


def heun(velocity: VelocityField, z: Tensor, times: Tensor, on_step: Callable[[float, Tensor], None] | None = None) -> Tensor:
    """Integrate dz/dt = velocity along ``times`` (see the package's docstring)."""
    grid = times.tolist()
    for now, after in pairwise(grid):
        if on_step:
            on_step(now, z)
        here = velocity(z, z.new_full((len(z),), now))
        there = velocity(z + (after - now) * here, z.new_full((len(z),), after))
        z = z + (after - now) * (here + there) / 2
    if on_step:
        on_step(grid[-1], z)
    return z
