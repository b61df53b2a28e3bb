"""Edits that need no direction: interpolation, arithmetic and noise. Latents are standardised and flattened: (N, F)."""

import torch
from torch import Tensor

_PARALLEL = 1e-4  # radians; below this angle the great circle is computed as a straight line


def linear(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Return points (N, S, F) on straight lines from ``start`` to ``end`` (N, F), at ``fractions`` (S,) of the way."""
    return start[:, None] + fractions[:, None] * (end - start)[:, None]


def spherical(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Return points (N, S, F) on great circles from ``start`` to ``end`` (N, F), at ``fractions`` (S,) of the way.

    Between points of equal length all points have that length (Shoemake 1985, section 3.3). A straight line passes
    nearer to 0, where few latents lie.
    """
    cosine = torch.cosine_similarity(start, end)[:, None, None]  # (N, 1, 1)
    angle = cosine.clamp(-1, 1).acos()
    weights = fractions[:, None]  # (S, 1)
    from_start, from_end = ((1 - weights) * angle).sin() * start[:, None], (weights * angle).sin() * end[:, None]
    arcs = (from_start + from_end) / angle.sin()  # (N, S, F)
    straight = (angle < _PARALLEL) | (angle > torch.pi - _PARALLEL)  # opposite points have no unique great circle
    return torch.where(straight, linear(start, end, fractions), arcs)


def arithmetic(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Add the difference between ``a`` and ``b`` to ``c``: z_a - z_b + z_c, each (N, F).

    Mikolov et al. (arXiv 1301.3781) do this with vectors of words.
    """
    return a - b + c


def perturb(latents: Tensor, scales: Tensor, noise: Tensor) -> Tensor:
    """Add standard normal ``noise`` (N, F) to latents (N, F) at each of ``scales`` (S,): (N, S, F)."""
    return latents[:, None] + scales[:, None] * noise[:, None]
