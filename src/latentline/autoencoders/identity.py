"""The identity: diffusion in pixels is latent diffusion with it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder


class Identity(Autoencoder):
    """The latent is the image. There are no parameters, so nothing trains.

    Args:
        image_shape: (C, H, W) of the images.
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(image_shape)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the image itself."""
        return x

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the latent itself."""
        return z

    def loss(
        self, x: Tensor, noise: tuple[Tensor, ...], step: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return zero, since reconstructions are exact."""
        zero = x.new_zeros(())
        return zero, {"loss": zero, "mse": zero}, x
