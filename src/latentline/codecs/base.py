"""What every codec offers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Codec(nn.Module, ABC):
    """Pixels <-> latents. See the package's docstring."""

    latent_shape: tuple[int, ...]
    """(C, H, W) of a latent map, (D,) of a latent vector."""
    decoder: nn.Module
    """The network that writes the pixels; its layers in the order in which they work. Missing where nothing trains."""

    @abstractmethod
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> latents (B, *latent_shape), the same every time.

        With ``generator``, an encoder that gives a distribution draws from it; others do not notice.
        """

    @abstractmethod
    def decode(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents (B, *latent_shape) -> images (B, C, H, W), about in [-1, 1]. ``generator`` serves decoders that draw."""

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator, step: int | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Training loss (scalar) of images (B, C, H, W), its terms by name for the log, and the reconstructions (B, C, H, W) it is about.

        ``step`` counts the training's steps from 0, for weights that rise in the beginning; None = they have risen.
        """
