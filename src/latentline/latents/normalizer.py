"""The one object that standardises latents and undoes it.

Undoing it without having done it, or the reverse, is the classic way to ruin a latent diffusion model: nothing else in this
project touches mean and std.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Normalizer:
    """Mean and standard deviation of the training latents: per channel, each (C, 1, 1); of vectors per number, each (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, latents: Tensor) -> "Normalizer":
        """Measure raw latents (N, C, H, W) or (N, D) in float64; a channel that never varies keeps its scale."""
        moments = Moments()
        moments.add(latents)
        return moments.normalizer()

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


class Moments:
    """Measures latents that come in portions, in float64: the same bits whatever the portions, since images are added one after the other."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()  # of a latent
        self._origin: NDArray[np.float64] = np.empty(
            (0, 1)
        )  # (C, 1), a value of each channel: differences from it lose no digits
        self._sums: NDArray[np.float64] = np.empty((2, 0, 0))  # (2, 1, C): of the differences and of their squares
        self._images = 0

    def add(self, latents: Tensor) -> None:
        """Count the next raw latents (B, C, H, W) or (B, D), at least one."""
        values = latents.double().unsqueeze(-1).flatten(2).numpy()  # (B, C, H W) or (B, D, 1)
        if not self._images:
            self._shape, self._origin = tuple(latents.shape[1:]), values[0, :, :1].copy()
            self._sums = np.zeros((2, 1, len(self._origin)))
        differences = values - self._origin
        by_image = np.stack([differences.sum(axis=2), np.square(differences).sum(axis=2)])  # (2, B, C)
        self._sums = np.add.accumulate(np.concatenate([self._sums, by_image], axis=1), axis=1)[
            :, -1:
        ]  # one after the other, by definition
        self._images += len(values)

    def normalizer(self) -> Normalizer:
        """Mean and deviation (of a sample: divided by one less) of all that was counted; a channel that never varies keeps its scale."""
        per_channel = (self._shape[0], *[1] * (len(self._shape) - 1))  # (C, 1, 1) or (D,)
        numbers = self._images * int(np.prod(self._shape[1:]))  # of each channel
        total, squares = self._sums[:, 0]  # (C,) each
        variance = (squares - total**2 / numbers) / max(1, numbers - 1)
        mean = torch.from_numpy(self._origin[:, 0] + total / numbers).float().reshape(per_channel)
        std = torch.from_numpy(variance).clamp(min=0).sqrt().float().reshape(per_channel)
        return Normalizer(mean, std.where(std > 0, std.new_ones(())))
