"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598)."""

from collections.abc import Callable

import torch
from torch import Tensor

from latentline.diffusion.objective import Network

VelocityField = Callable[[Tensor, Tensor], Tensor]
"""velocity(z_t (B, ...), t (B,)) -> (B, ...): all that a sampler knows of a network."""


def guided_velocity(network: Network, condition: Tensor, guidance_scale: float) -> VelocityField:
    """Uncond + guidance_scale * (cond - uncond); at scale 1 the unconditional half is not computed.

    Args:
        network: predicts the velocity.
        condition: (B, F); zeros stand for nothing told.
        guidance_scale: w; 1 = off, 0 = unconditional.
    """
    if guidance_scale == 1:
        return lambda z_t, t: network(z_t, t, condition)
    both = torch.cat([condition, torch.zeros_like(condition)])  # (2B, F)

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        cond, uncond = network(torch.cat([z_t, z_t]), torch.cat([t, t]), both).chunk(2)
        return uncond + guidance_scale * (cond - uncond)

    return velocity


def evaluations_per_call(guidance_scale: float) -> int:
    """Network forwards per image and call of :func:`guided_velocity`'s result."""
    return 1 if guidance_scale == 1 else 2
