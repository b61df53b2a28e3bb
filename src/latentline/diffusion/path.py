"""Noise paths: how much data and how much noise there is at time t."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PathPoint:
    """alpha, sigma and their derivatives by t, each of t's shape."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    def expand(self, dimensions: int) -> "PathPoint":
        """Append axes of length 1 until each coefficient has ``dimensions`` axes, to broadcast over (B, ...)."""
        return PathPoint(*(c.reshape(c.shape + (1,) * (dimensions - c.ndim)) for c in (self.alpha, self.sigma, self.d_alpha, self.d_sigma)))


def flow_path(t: Tensor) -> PathPoint:
    """The straight path z_t = (1 - t) z0 + t noise (rectified flow: Liu et al., arXiv 2209.03003, eq. 1; t reversed)."""
    one = torch.ones_like(t)
    return PathPoint(alpha=1 - t, sigma=t, d_alpha=-one, d_sigma=one)


def add_noise(z0: Tensor, noise: Tensor, point: PathPoint) -> Tensor:
    """z_t (B, ...) from z0 and noise (B, ...) at the path point of t (B,)."""
    at = point.expand(z0.ndim)
    return at.alpha * z0 + at.sigma * noise


def velocity(z0: Tensor, noise: Tensor, point: PathPoint) -> Tensor:
    """dz_t/dt (B, ...) for fixed z0 and noise (B, ...) at the path point of t (B,)."""
    at = point.expand(z0.ndim)
    return at.d_alpha * z0 + at.d_sigma * noise
