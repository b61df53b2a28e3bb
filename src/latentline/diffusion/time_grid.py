"""Time grids of samplers: (steps + 1,) float64, from exactly 1 (noise) down to exactly 0 (data)."""

import torch
from torch import Tensor

from latentline.core.errors import UserError
from latentline.diffusion.path import NoisePath
from latentline.diffusion.vp import DISCRETE_STEPS

TIME_GRIDS = ("uniform", "shifted", "karras", "discrete")
_SMALLEST_TIME = 1 / DISCRETE_STEPS
_LARGEST_RATIO = 164.0  # exp(5.1), where diffusers clips log(alpha / sigma) as well; vp_linear itself ends at 157
_RHO = 7.0


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Return even steps in t, or more of them at one end.

    Args:
        steps: number of intervals.
        shift: 1 = uniform; above 1 = denser near noise: t -> shift t / (1 + (shift - 1) t) (Esser et al.,
            arXiv 2403.03206, eq. 23).
    """
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return shift * t / (shift * t + (1 - t))  # the same, and exactly 1 at t = 1


def karras_grid(steps: int, path: NoisePath) -> Tensor:
    """Return even steps in (sigma / alpha)^(1/7), shortest near the data (Karras et al., arXiv 2206.00364, eq. 5).

    The ratios go from the one of t = 1, but at most 164, to the one of t = 0.001; then to the data. The first time is
    set to 1, where sampling starts for any ratio.
    """
    first = path.at_time(_SMALLEST_TIME)
    last = path.at_time(1.0)
    smallest, largest = first.sigma / first.alpha, (last.sigma / last.alpha).clamp(max=_LARGEST_RATIO)
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    ratios = (largest ** (1 / _RHO) + share * (smallest ** (1 / _RHO) - largest ** (1 / _RHO))) ** _RHO  # (steps,)
    return torch.cat([share.new_ones(1), path.time_at(ratios[1:]), share.new_zeros(1)])


def discrete_grid(steps: int) -> Tensor:
    """Return even steps rounded to the 1000 discrete ones, "trailing" (Lin et al., arXiv 2305.08891, table 2).

    The noisiest of them, t = 1, is always in the grid.

    Raises:
        UserError: more than 1000 steps.
    """
    if steps > DISCRETE_STEPS:
        expected = f"at most {DISCRETE_STEPS} on the discrete time grid"
        raise UserError(f"steps ({steps}) must be {expected}; lower it, or take the uniform time grid")
    return (time_grid(steps) * DISCRETE_STEPS).round() / DISCRETE_STEPS


def build_time_grid(kind: str, steps: int, path: NoisePath, shift: float) -> Tensor:
    """Return the grid ``kind`` (one of ``TIME_GRIDS``) with ``steps`` intervals; only ``shifted`` uses ``shift``."""
    if kind == "uniform":
        return time_grid(steps)
    if kind == "shifted":
        return time_grid(steps, shift)
    if kind == "karras":
        return karras_grid(steps, path)
    if kind == "discrete":
        return discrete_grid(steps)
    raise ValueError(f"unknown time grid {kind!r}")
