"""Standardisation of latents and its inverse.

Applying only one of the two is the classic way to ruin a latent diffusion model. So no other module uses mean and std.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Normalizer:
    """Mean and standard deviation of the training latents: (C, 1, 1) each for maps, (D,) each for vectors."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, latents: Tensor) -> "Normalizer":
        """Measure raw latents (N, C, H, W) or (N, D) in float64; a constant channel keeps its scale."""
        moments = Moments()
        moments.add(latents)
        return moments.normalizer()

    @classmethod
    def constant(cls, factor: float, shape: Sequence[int]) -> "Normalizer":
        """Return the normalizer of latents of ``shape`` that only multiplies by ``factor``.

        Stable Diffusion's factor is 0.18215 (arXiv 2112.10752).
        """
        mean = torch.zeros(shape[0], *[1] * (len(shape) - 1))  # (C, 1, 1) or (D,)
        return cls(mean, torch.full_like(mean, 1 / factor))

    def to(self, device: torch.device) -> "Normalizer":
        """Return the normalizer on ``device``, so that its use there copies nothing."""
        return Normalizer(self.mean.to(device), self.std.to(device))

    def standardise(self, raw: Tensor) -> Tensor:
        """Return raw latents (B, C, H, W) or (B, D) as float32 with zero mean and unit variance per channel."""
        return (raw.float() - self.mean.to(raw.device)) / self.std.to(raw.device)

    def restore(self, standardised: Tensor) -> Tensor:
        """Return the raw latents of standardised ones, as the decoder expects them."""
        return standardised * self.std.to(standardised.device) + self.mean.to(standardised.device)


class Moments:
    """Moments of latents that come in portions, in float64.

    Images are added one after the other, so that the portions' sizes change no bit.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()  # of a latent
        # (C, 1), a value of each channel; differences from it lose no digits
        self._origin: NDArray[np.float64] = np.empty((0, 1))
        self._sums: NDArray[np.float64] = np.empty((2, 0, 0))  # (2, 1, C): of the differences and of their squares
        self._images = 0

    def add(self, latents: Tensor) -> None:
        """Add the next raw latents (B, C, H, W) or (B, D), at least one."""
        values = latents.double().unsqueeze(-1).flatten(2).numpy()  # (B, C, H W) or (B, D, 1)
        if not self._images:
            self._shape, self._origin = tuple(latents.shape[1:]), values[0, :, :1].copy()
            self._sums = np.zeros((2, 1, len(self._origin)))
        differences = values - self._origin
        by_image = np.stack([differences.sum(axis=2), np.square(differences).sum(axis=2)])  # (2, B, C)
        # accumulate adds one image after the other, by definition; sum may not
        self._sums = np.add.accumulate(np.concatenate([self._sums, by_image], axis=1), axis=1)[:, -1:]
        self._images += len(values)

    def normalizer(self) -> Normalizer:
        """Return the normalizer of all added latents; a constant channel keeps its scale.

        The variance is the sample variance, divided by the count minus one.
        """
        per_channel = (self._shape[0], *[1] * (len(self._shape) - 1))  # (C, 1, 1) or (D,)
        numbers = self._images * int(np.prod(self._shape[1:]))  # of each channel
        total, squares = self._sums[:, 0]  # (C,) each
        variance = (squares - total**2 / numbers) / max(1, numbers - 1)
        mean = torch.from_numpy(self._origin[:, 0] + total / numbers).float().reshape(per_channel)
        std = torch.from_numpy(variance).clamp(min=0).sqrt().float().reshape(per_channel)
        return Normalizer(mean, std.where(std > 0, std.new_ones(())))
