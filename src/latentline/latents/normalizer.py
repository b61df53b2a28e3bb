"""The one object that standardises latents and undoes it.

Undoing it without having done it, or the reverse, is the classic way to ruin a latent diffusion model: nothing else in this
project touches mean and std.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalizer:
    """Mean and standard deviation of the training latents: per channel, each (C, 1, 1); of vectors per number, each (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, latents: Tensor) -> "Normalizer":
        """Measure raw latents (N, C, H, W) or (N, D) in float64; a channel that never varies keeps its scale."""
        exact = latents.double()
        over = (0, *range(2, latents.ndim))  # images, and positions where there are any
        mean = exact.mean(dim=over, keepdim=True)[0]  # (C, 1, 1) or (D,)
        std = exact.std(dim=over, keepdim=True)[0]
        return cls(mean.float(), std.where(std > 0, std.new_ones(())).float())

    @classmethod
    def constant(cls, factor: float, shape: Sequence[int]) -> "Normalizer":
        """Multiply by ``factor`` and no more, whatever the latents of ``shape``: 0.18215 is Stable Diffusion's (arXiv 2112.10752)."""
        mean = torch.zeros(shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
        return cls(mean, torch.full_like(mean, 1 / factor))

    def standardise(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, H, W) or (B, D) of any float type -> float32 with zero mean and unit variance per channel."""
        return (raw.float() - self.mean.to(raw.device)) / self.std.to(raw.device)

    def restore(self, standardised: Tensor) -> Tensor:
        """The inverse of :meth:`standardise`: what the decoder takes."""
        return standardised * self.std.to(standardised.device) + self.mean.to(standardised.device)
