"""Where the steps of a sampler lie."""

import torch
from torch import Tensor


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Times (steps + 1,) from 1 (noise) down to exactly 0 (data).

    Args:
        steps: number of intervals.
        shift: 1 = uniform; above 1 = denser near noise: t -> shift t / (1 + (shift - 1) t) (Esser et al., arXiv 2403.03206, eq. 23).
    """
    t = torch.linspace(1, 0, steps + 1)
    return shift * t / (shift * t + (1 - t))  # the same, and exactly 1 at t = 1
