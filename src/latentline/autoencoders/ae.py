"""The plain autoencoder (Hinton and Salakhutdinov 2006): its objective is the reconstruction error alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder, in_weights_dtype
from latentline.autoencoders.encoder_decoder import build_encoder_decoder
from latentline.autoencoders.reconstruction import reconstruction_loss


class AE(Autoencoder):
    """Deterministic encoder and decoder.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        reconstruction: ``l1`` or ``l2``.
        networks: arguments of :func:`build_encoder_decoder`.
    """

    def __init__(self, image_shape: Sequence[int], reconstruction: str = "l2", **networks: Any) -> None:
        super().__init__()
        built = build_encoder_decoder(image_shape, statistics=1, **networks)
        self.encoder, self.decoder, self.latent_shape = built.encoder, built.decoder, built.latent_shape
        self.reconstruction = reconstruction

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`Autoencoder.encode`; takes no random numbers."""
        return in_weights_dtype(self.encoder, x)

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Autoencoder.decode`; without noise."""
        return in_weights_dtype(self.decoder, z)

    def loss(
        self, x: Tensor, noise: tuple[Tensor, ...], step: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return the reconstruction error; see :meth:`Autoencoder.loss`."""
        reconstruction = self.decode(self.encode(x))
        loss, terms = reconstruction_loss(self.reconstruction, reconstruction, x)
        return loss, {"loss": loss, **terms}, reconstruction
