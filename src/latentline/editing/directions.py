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


def move(latents: Tensor, direction: Tensor, distance: float | Tensor) -> Tensor:
    """Latents (N, F) shifted by ``distance``, one for all or (N, 1), along the unit ``direction`` (F,)."""
    return latents + distance * direction


def mean_differences(latents: Tensor, holds: Tensor) -> Tensor:
    """Mean of the latents (N, F) that are so minus mean of the others, for each column of bool ``holds`` (N, K): (K, F).

    Zeros where all are so or none is.
    """
    inside = holds.float()
    counts = inside.sum(dim=0)[:, None]  # (K, 1)
    sums = inside.T @ latents  # (K, F)
    difference = sums / counts.clamp(min=1) - (latents.sum(dim=0) - sums) / (len(latents) - counts).clamp(
        min=1
    )  # (K, F)
    return difference.where((counts > 0) & (counts < len(latents)), difference.new_zeros(()))
