"""What all samplers share: their types, and the walk along the grid."""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from latentline.diffusion.process import DenoiserModel

NoiseFn = Callable[[int], Tensor]
"""draw_noise(step) -> standard normal noise (B, ...) for that step."""

Callback = Callable[[float, Tensor], None]
"""on_step(t, z (B, ...)): sees a state."""


class Sampler(Protocol):
    """A sampler whose knobs are filled in."""

    def __call__(self, model: DenoiserModel, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
        """The state (B, ...) at times[-1] from ``z`` at times[0]."""


def integrate(
    step: Callable[[int, Tensor, float, float], Tensor], z: Tensor, times: Tensor, callback: Callback | None
) -> Tensor:
    """Apply z = step(index, z, now, after) along ``times`` (K + 1,)."""
    grid = times.tolist()
    if callback:
        callback(grid[0], z)
    for index, (now, after) in enumerate(pairwise(grid)):
        z = step(index, z, now, after)
        if callback:
            callback(after, z)
    return z
