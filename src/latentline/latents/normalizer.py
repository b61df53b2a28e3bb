"""The one object that standardises latents and undoes it.

Undoing it without having done it, or the reverse, is the classic way to ruin a latent diffusion model: nothing else in this
project touches mean and std.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Normalizer:
    """Per-channel mean and standard deviation of the training latents, each (C, 1, 1)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, latents: Tensor) -> "Normalizer":
        """Measure raw latents (N, C, H, W) in float64; a channel that never varies keeps its scale."""
        exact = latents.double()
        mean = exact.mean(dim=(0, 2, 3), keepdim=True)[0]  # (C, 1, 1)
        std = exact.std(dim=(0, 2, 3), keepdim=True)[0]
        return cls(mean.float(), std.where(std > 0, std.new_ones(())).float())

    def standardise(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, H, W) of any float type -> float32 with zero mean and unit variance per channel."""
        return (raw.float() - self.mean.to(raw.device)) / self.std.to(raw.device)

    def restore(self, standardised: Tensor) -> Tensor:
        """The inverse of :meth:`standardise`: what the decoder takes."""
        return standardised * self.std.to(standardised.device) + self.mean.to(standardised.device)
