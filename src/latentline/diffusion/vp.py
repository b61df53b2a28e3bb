"""Variance-preserving paths, alpha^2 + sigma^2 = 1, from the discrete schedules of the literature."""

import math

import torch
from torch import Tensor

from latentline.diffusion.path import Coefficients, NoisePath

DISCRETE_STEPS = 1000


def linear_betas() -> Tensor:
    """Return beta_i (T,) float64, evenly from 1e-4 to 0.02 (Ho et al., arXiv 2006.11239, section 4)."""
    return torch.linspace(1e-4, 0.02, DISCRETE_STEPS, dtype=torch.float64)


def cosine_betas() -> Tensor:
    """Return beta_i (T,) float64 of alpha_bar(t) = cos^2((t + 0.008) / 1.008 * pi / 2), at most 0.999.

    Nichol and Dhariwal, arXiv 2102.09672, eq. 17.
    """
    t = torch.arange(DISCRETE_STEPS + 1, dtype=torch.float64) / DISCRETE_STEPS
    alpha_bar = ((t + 0.008) / 1.008 * math.pi / 2).cos().square()  # (T + 1,); the division removes its value at 0
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


class VariancePreservingPath(NoisePath):
    """Path with alpha^2 = alpha_bar, sigma^2 = 1 - alpha_bar, and log alpha_bar linear between steps t = (i + 1) / T.

    sigma'(t) is infinite at t = 0, where sigma grows like the square root of t; all else is finite.

    Args:
        name: of the path.
        betas: (T,) float64, the variance that each discrete step adds.
    """

    def __init__(self, name: str, betas: Tensor) -> None:
        self.name = name
        # (T + 1,): entry j is t = j / T
        self._log_alpha_bar = torch.cat([betas.new_zeros(1), (-betas).log1p().cumsum(dim=0)])
        self._tables: dict[tuple[torch.dtype, torch.device], Tensor] = {}  # copied to each device once

    def __call__(self, t: Tensor) -> Coefficients:
        """See :meth:`NoisePath.__call__`; at a discrete step the derivatives are those of the interval above it."""
        table, steps = self._table(t), len(self._log_alpha_bar) - 1
        below = (t * steps).floor().clamp(0, steps - 1).long()
        rise = table[below + 1] - table[below]
        log_alpha_bar = table[below] + (t * steps - below) * rise
        alpha, sigma = (log_alpha_bar / 2).exp(), (-log_alpha_bar.expm1()).sqrt()
        slope = rise * steps  # d log(alpha_bar) / dt = 2 alpha' / alpha; and sigma sigma' = -alpha alpha'
        return Coefficients(
            alpha=alpha, sigma=sigma, d_alpha=alpha * slope / 2, d_sigma=-alpha.square() * slope / (2 * sigma)
        )

    def time_at(self, ratio: Tensor) -> Tensor:
        """Invert the interpolated table at log alpha_bar = -log(1 + ratio^2)."""
        falling, steps = -self._table(ratio), len(self._log_alpha_bar) - 1
        wanted = ratio.square().log1p().clamp(max=falling[-1])
        below = (torch.searchsorted(falling, wanted, right=True) - 1).clamp(0, steps - 1)
        return (below + (wanted - falling[below]) / (falling[below + 1] - falling[below])) / steps

    def _table(self, like: Tensor) -> Tensor:
        """Return log alpha_bar (T + 1,) in the type and on the device of ``like``."""
        key = like.dtype, like.device
        if key not in self._tables:
            self._tables[key] = self._log_alpha_bar.to(like)
        return self._tables[key]


vp_linear_path = VariancePreservingPath("vp_linear", linear_betas())
vp_cosine_path = VariancePreservingPath("vp_cosine", cosine_betas())
