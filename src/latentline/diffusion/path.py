"""Noise paths: the coefficients of data and noise at time t."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


def expand(values: Tensor, dimensions: int) -> Tensor:
    """Append axes of length 1 to ``values`` until they have ``dimensions`` axes, to broadcast over (B, ...)."""
    return values.reshape(values.shape + (1,) * (dimensions - values.ndim))


@dataclass(frozen=True)
class Coefficients:
    """alpha, sigma and their derivatives with respect to t, each of t's shape."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    def expand(self, dimensions: int) -> "Coefficients":
        """Append axes of length 1 until each coefficient has ``dimensions`` axes, to broadcast over (B, ...)."""
        coefficients = (self.alpha, self.sigma, self.d_alpha, self.d_sigma)
        return Coefficients(*(expand(values, dimensions) for values in coefficients))

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2; infinite at t = 0."""
        return self.alpha.square() / self.sigma.square()

    @property
    def log_snr(self) -> Tensor:
        """Half the log of the SNR, lambda = log(alpha / sigma): the time variable of exponential integrators."""
        return self.alpha.log() - self.sigma.log()


class NoisePath(ABC):
    """alpha and sigma as functions of t in [0, 1]."""

    name: str

    @abstractmethod
    def __call__(self, t: Tensor) -> Coefficients:
        """Return the coefficients at t of any shape, in t's shape, type and device."""

    @abstractmethod
    def time_at(self, ratio: Tensor) -> Tensor:
        """Return the t at which sigma / alpha is ``ratio`` in [0, infinity]; beyond the path, its end."""

    def at_time(self, time: float) -> Coefficients:
        """Return the coefficients at one time as float64 scalars, for the steps of samplers."""
        return self(torch.tensor(time, dtype=torch.float64))


class FlowPath(NoisePath):
    """The straight path z_t = (1 - t) z0 + t noise (Liu et al., arXiv 2209.03003, eq. 1, t reversed)."""

    name = "flow"

    def __call__(self, t: Tensor) -> Coefficients:
        """See :meth:`NoisePath.__call__`."""
        one = torch.ones_like(t)
        return Coefficients(alpha=1 - t, sigma=t, d_alpha=-one, d_sigma=one)

    def time_at(self, ratio: Tensor) -> Tensor:
        """Solve t / (1 - t) = ratio."""
        return 1 / (1 + 1 / ratio)


flow_path = FlowPath()


def add_noise(z0: Tensor, noise: Tensor, point: Coefficients) -> Tensor:
    """Return z_t (B, ...) of z0 and noise (B, ...) at the coefficients of t (B,)."""
    at = point.expand(z0.ndim)
    return at.alpha * z0 + at.sigma * noise


def add_noise_at(path: NoisePath, z0: Tensor, noise: Tensor, time: float) -> Tensor:
    """Return z_t (B, ...) of z0 and noise (B, ...) where the whole batch is at one time."""
    return add_noise(z0, noise, path(z0.new_full((len(z0),), time)))


def velocity(z0: Tensor, noise: Tensor, point: Coefficients) -> Tensor:
    """Return dz_t/dt (B, ...) for fixed z0 and noise (B, ...) at the coefficients of t (B,)."""
    at = point.expand(z0.ndim)
    return at.d_alpha * z0 + at.d_sigma * noise


def increments(now: Coefficients, after: Coefficients) -> tuple[Tensor, Tensor]:
    """Return (d alpha, d sigma) of a step, which moves a state by z0 d(alpha) + noise d(sigma)."""
    return after.alpha - now.alpha, after.sigma - now.sigma
