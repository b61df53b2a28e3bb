"""Edits that need no direction: between images, sums of images, noise. Latents are standardised and flattened: (N, F)."""

import torch
from torch import Tensor

_PARALLEL = 1e-4  # radians; nearer than this the great circle is the straight line


def linear(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Straight lines from ``start`` to ``end`` (N, F) at ``shares`` (S,) of the way: (N, S, F)."""
    return start[:, None] + shares[:, None] * (end - start)[:, None]


def spherical(start: Tensor, end: Tensor, shares: Tensor) -> Tensor:
    """Great circles from ``start`` to ``end`` (N, F) at ``shares`` (S,) of the way: (N, S, F) (Shoemake 1985, section 3.3).

    Between points of equal length all points have that length, where a straight line passes nearer to 0, which few latents are.
    """
    cosine = torch.cosine_similarity(start, end)[:, None, None]  # (N, 1, 1)
    angle = cosine.clamp(-1, 1).acos()
    weights = shares[:, None]  # (S, 1)
    arcs = (
        ((1 - weights) * angle).sin() * start[:, None] + (weights * angle).sin() * end[:, None]
    ) / angle.sin()  # (N, S, F)
    straight = (angle < _PARALLEL) | (angle > torch.pi - _PARALLEL)  # of opposite points no circle is the one
    return torch.where(straight, linear(start, end, shares), arcs)


def arithmetic(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """What distinguishes ``a`` from ``b``, given to ``c``: z_a - z_b + z_c, (N, F) each (Mikolov et al., arXiv 1301.3781, of words)."""
    return a - b + c


def perturb(latents: Tensor, scales: Tensor, noise: Tensor) -> Tensor:
    """Latents (N, F) with the same standard normal ``noise`` (N, F) at each of ``scales`` (S,), in standard deviations: (N, S, F)."""
    return latents[:, None] + scales[:, None] * noise[:, None]
