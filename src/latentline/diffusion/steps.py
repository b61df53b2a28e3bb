"""Types of all samplers, and the loop along their grid."""

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from latentline.diffusion.process import DenoiserModel

NoiseFn = Callable[[int], Tensor]
"""noise_fn(step) -> standard normal noise (B, ...) for that step, counted from 0."""

Callback = Callable[[float, Tensor], None]
"""callback(t, z (B, ...)): receives a state."""


class Sampler(Protocol):
    """A sampler with its options bound."""

    def __call__(self, model: DenoiserModel, z: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
        """Return the state (B, ...) at the last of ``times``.

        Args:
            model: the network.
            z: the state (B, ...) at ``times[0]``.
            times: (K + 1,) float64; from 1 to 0 to sample.
            callback: receives the state at every grid time, the first included.
        """


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
