"""Euler's method: first order, one evaluation per step."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from latentline.diffusion.guidance import VelocityField

EVALUATIONS_PER_STEP = 1


def euler(velocity: VelocityField, z: Tensor, times: Tensor, on_step: Callable[[float, Tensor], None] | None = None) -> Tensor:
    """Integrate dz/dt = velocity along ``times`` (see the package's docstring)."""
    grid = times.tolist()
    for now, after in pairwise(grid):
        if on_step:
            on_step(now, z)
        z = z + (after - now) * velocity(z, z.new_full((len(z),), now))
    if on_step:
        on_step(grid[-1], z)
    return z
