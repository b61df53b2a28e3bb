"""Types of all samplers, and the loop along their grid."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from latentline.diffusion.process import DenoiserModel

NoiseFn = Callable[[int], Tensor]
"""noise_fn(step) -> standard normal noise (B, ...) for that step, counted from 0."""

Callback = Callable[[float, Tensor], None]
"""callback(t, z (B, ...)): receives a state."""

Times = Tensor | Sequence[float]
"""Grid times (K + 1,)."""


class Sampler(Protocol):
    """A sampler with its options bound."""

    def __call__(self, model: DenoiserModel, z: Tensor, times: Times, callback: Callback | None = None) -> Tensor:
        """Return the state (B, ...) at the last of ``times``.

        Args:
            model: the network.
            z: the state (B, ...) at ``times[0]``.
            times: (K + 1,), a float64 tensor or floats; from 1 to 0 to sample. With floats ``torch.compile`` makes one
                graph of the whole sampler.
            callback: receives the state at every grid time, the first included.
        """


def integrate(
    step: Callable[[int, Tensor, float, float], Tensor], z: Tensor, times: Times, callback: Callback | None
) -> Tensor:
    """Apply z = step(index, z, now, after) along ``times`` (K + 1,)."""
    grid = [float(time) for time in times]
    if callback:
        callback(grid[0], z)
    for index, (now, after) in enumerate(pairwise(grid)):
        z = step(index, z, now, after)
        if callback:
            callback(after, z)
    return z
