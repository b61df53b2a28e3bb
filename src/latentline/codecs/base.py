"""What every codec offers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Codec(nn.Module, ABC):
    """Pixels <-> latents. See the package's docstring."""

    latent_shape: tuple[int, int, int]
    """(C, H, W) of a latent."""
    decoder: nn.Module
    """The network that writes the pixels; its layers in the order in which they work."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> latents (B, *latent_shape), the same every time."""

    @abstractmethod
    def decode(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, *latent_shape) -> images (B, C, H, W), about in [-1, 1]. ``generator`` serves decoders that draw."""

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Training loss (scalar) of images (B, C, H, W), its terms by name for the log, and the reconstructions (B, C, H, W) it is about."""
