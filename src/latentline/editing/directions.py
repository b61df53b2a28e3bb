"""Directions in latent space. Latents are standardised and flattened: (N, F)."""

import torch
from torch import Tensor


def unit(directions: Tensor) -> Tensor:
    """(K, F) scaled to length 1 each."""
    return directions / directions.norm(dim=1, keepdim=True)


def random_directions(like: Tensor, generator: torch.Generator) -> Tensor:
    """Unit vectors drawn uniformly, of the shape (K, F) of ``like``."""
    return unit(torch.randn(like.shape, generator=generator))


def spread(latents: Tensor, directions: Tensor) -> Tensor:
    """Standard deviation of ``latents`` (N, F) along each unit direction (K, F): the unit of strength, (K,)."""
    return (latents @ directions.T).std(dim=0)


def move(latents: Tensor, direction: Tensor, distance: float) -> Tensor:
    """Latents (N, F) shifted by ``distance`` along the unit ``direction`` (F,)."""
    return latents + distance * direction
