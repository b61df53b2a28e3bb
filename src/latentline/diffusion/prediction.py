"""All conversions between what a network may predict and what a sampler may need."""

from dataclasses import dataclass

from torch import Tensor

from latentline.diffusion.path import PathPoint


@dataclass(frozen=True)
class Prediction:
    """One estimate in every form, each (B, ...). ``score`` needs sigma > 0."""

    z0: Tensor
    noise: Tensor
    velocity: Tensor
    score: Tensor


def from_velocity(z_t: Tensor, velocity: Tensor, point: PathPoint) -> Prediction:
    """Solve z_t = alpha z0 + sigma noise and velocity = alpha' z0 + sigma' noise for z0 and noise.

    Args:
        z_t: (B, ...).
        velocity: (B, ...), the network's output.
        point: path point of t (B,).
    """
    at = point.expand(z_t.ndim)
    determinant = at.alpha * at.d_sigma - at.sigma * at.d_alpha
    z0 = (at.d_sigma * z_t - at.sigma * velocity) / determinant
    noise = (at.alpha * velocity - at.d_alpha * z_t) / determinant
    return Prediction(z0=z0, noise=noise, velocity=velocity, score=-noise / at.sigma)
