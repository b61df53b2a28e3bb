"""The plain autoencoder (Hinton and Salakhutdinov 2006): nothing but reconstruction."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec
from latentline.autoencoders.encoder_decoder import build_coders
from latentline.autoencoders.reconstruction import reconstruction_loss


class AE(Codec):
    """Encoder and decoder, the same latent for the same image.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        reconstruction: ``l1`` or ``l2``.
        coder: what :func:`build_coders` takes.
    """

    def __init__(self, image_shape: Sequence[int], reconstruction: str = "l2", **coder: Any) -> None:
        super().__init__()
        coders = build_coders(image_shape, statistics=1, **coder)
        self.encoder, self.decoder, self.latent_shape = coders.encoder, coders.decoder, coders.latent_shape
        self.reconstruction = reconstruction

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`Codec.encode`; draws nothing."""
        return self.encoder(x)

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Codec.decode`; without noise."""
        return self.decoder(z)

    def loss(self, x: Tensor, generator: torch.Generator, step: int | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The reconstruction error alone."""
        reconstruction = self.decode(self.encode(x))
        loss, terms = reconstruction_loss(self.reconstruction, reconstruction, x)
        return loss, {"loss": loss, **terms}, reconstruction
