"""Directions in latent space. Latents are standardised and flattened: (N, F)."""

import torch
from torch import Tensor


def unit(directions: Tensor) -> Tensor:
    """Return directions (K, F) scaled to length 1."""
    return directions / directions.norm(dim=1, keepdim=True)


def random_directions(like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw unit vectors uniformly, of the shape (K, F) of ``like``."""
    return unit(torch.randn(like.shape, generator=generator))


def spread(latents: Tensor, directions: Tensor) -> Tensor:
    """Return the standard deviation (K,) of ``latents`` (N, F) along unit directions (K, F): the unit of strength."""
    return (latents @ directions.T).std(dim=0)


def move(latents: Tensor, direction: Tensor, distance: float | Tensor) -> Tensor:
    """Shift latents (N, F) along the unit ``direction`` (F,) by ``distance``, one for all or (N, 1)."""
    return latents + distance * direction


def mean_differences(latents: Tensor, matches: Tensor, unknown: Tensor) -> Tensor:
    """Return the mean of matching latents minus the mean of all others, one direction (K, F) per target.

    A target that all or no images match has a direction of zeros.

    Args:
        latents: (N, F).
        matches: bool (N, K), which images match each target.
        unknown: bool (N, K), images left out, since it is unknown whether they match.
    """
    inside = matches.float()
    counts = inside.sum(dim=0)[:, None]  # (K, 1)
    sums = inside.T @ latents  # (K, F)
    total, total_count = latents.sum(dim=0), torch.tensor(len(latents))  # of all images that are not left out
    if unknown.any():
        outside = unknown.float()
        total, total_count = total - outside.T @ latents, total_count - outside.sum(dim=0)[:, None]  # (K, F), (K, 1)
    other_counts = (total_count - counts).clamp(min=1)
    difference = sums / counts.clamp(min=1) - (total - sums) / other_counts  # (K, F)
    return difference.where((counts > 0) & (counts < total_count), difference.new_zeros(()))
