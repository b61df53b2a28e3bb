"""No autoencoder at all: diffusion in pixels is latent diffusion with the identity."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec


class Identity(Codec):
    """The latent is the image. Nothing to train: it has no parameters.

    Args:
        image_shape: (C, H, W) of the images.
    """

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(image_shape)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The image itself."""
        return x

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """The latent itself."""
        return z

    def loss(self, x: Tensor, generator: torch.Generator, step: int | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Zero: nothing is lost."""
        zero = x.new_zeros(())
        return zero, {"loss": zero, "mse": zero}, x
