"""All conversions between the kinds of prediction.

Every prediction is some a * z0 + b * noise, and a and b follow from t. Together with z_t = alpha * z0 + sigma * noise
these are two equations for two unknowns. One solution serves every kind of prediction on every path.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentline.diffusion.path import Coefficients

_COEFFICIENTS: dict[str, Callable[[Coefficients], tuple[Tensor, Tensor]]] = {  # (a, b)
    # Ho et al., arXiv 2006.11239, eq. 14
    "epsilon": lambda at: (torch.zeros_like(at.alpha), torch.ones_like(at.alpha)),
    "v": lambda at: (-at.sigma, at.alpha),  # Salimans and Ho, arXiv 2202.00512, section 4
    "x0": lambda at: (torch.ones_like(at.alpha), torch.zeros_like(at.alpha)),
    "velocity": lambda at: (at.d_alpha, at.d_sigma),  # Liu et al., arXiv 2209.03003, eq. 1
}
PREDICTIONS = tuple(_COEFFICIENTS)


@dataclass(frozen=True)
class Prediction:
    """One estimate in every form: z0 and noise (B, ...), and the coefficients ``at``, which broadcast over them."""

    z0: Tensor
    noise: Tensor
    at: Coefficients

    @property
    def velocity(self) -> Tensor:
        """dz/dt (B, ...); on variance-preserving paths only above t = 0."""
        return self.at.d_alpha * self.z0 + self.at.d_sigma * self.noise

    @property
    def score(self) -> Tensor:
        """Gradient of log p(z_t) (B, ...); only above t = 0."""
        return -self.noise / self.at.sigma


def training_target(kind: str, z0: Tensor, noise: Tensor, point: Coefficients) -> Tensor:
    """Return the target (B, ...) of prediction ``kind``, from z0 and noise (B, ...) at the coefficients of t (B,)."""
    of_z0, of_noise = _COEFFICIENTS[kind](point.expand(z0.ndim))
    return of_z0 * z0 + of_noise * noise


def from_output(kind: str, z_t: Tensor, output: Tensor, point: Coefficients) -> Prediction:
    """Solve z_t = alpha z0 + sigma noise and output = a z0 + b noise for z0 and noise.

    The equations leave one case open: ``x0`` at t = 0, where z_t is the data and independent of the noise. There the
    noise is 0, its mean given z_t.

    Args:
        kind: one of ``PREDICTIONS``, compatible with the path (see ``process.require_compatible``).
        z_t: (B, ...).
        output: (B, ...), the network's.
        point: coefficients of t (B,).
    """
    at = point.expand(z_t.ndim)
    of_z0, of_noise = _COEFFICIENTS[kind](at)
    determinant = at.alpha * of_noise - at.sigma * of_z0
    solvable = determinant != 0
    divisor = torch.where(solvable, determinant, 1)
    z0 = of_noise / divisor * z_t - torch.where(solvable, at.sigma / divisor, -1) * output
    noise = torch.where(solvable, at.alpha / divisor, 0) * output - torch.where(solvable, of_z0 / divisor, 0) * z_t
    return Prediction(z0=z0, noise=noise, at=at)


def z0_error_per_output_error(kind: str, point: Coefficients) -> Tensor:
    """Return |dz0 / d output| at fixed z_t, of t's shape: the error of z0 per error of the network's output."""
    of_z0, of_noise = _COEFFICIENTS[kind](point)
    return (
        torch.ones_like(point.alpha)
        if kind == "x0"
        else (point.sigma / (point.alpha * of_noise - point.sigma * of_z0)).abs()
    )
