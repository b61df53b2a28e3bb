"""The interface of every autoencoder."""

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn


def in_weights_dtype(network: nn.Module, x: Tensor) -> Tensor:
    """Return ``network(x)``, computed in the type of its weights or of autocast, in the type of ``x``."""
    return cast(Tensor, network(x.to(next(network.parameters()).dtype))).to(x.dtype)


class Autoencoder(nn.Module, ABC):
    """Pixels <-> latents. See the package's docstring."""

    latent_shape: tuple[int, ...]
    """(C, H, W) of a latent map, (D,) of a latent vector."""
    decoder: nn.Module
    """The network that writes the pixels, its layers in the order of the forward pass. Missing where nothing trains."""
    noise_shape: tuple[int, ...] | None = None
    """Shape of the noise from which, with the latent, an image is decoded; None where decoding takes no noise."""

    @abstractmethod
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Encode images (B, C, H, W) in [-1, 1] as latents (B, *latent_shape), deterministically.

        With ``generator``, an encoder that gives a distribution samples from it; others ignore it.
        """

    @abstractmethod
    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Decode latents (B, *latent_shape) to images (B, C, H, W), about in [-1, 1], deterministically.

        ``noise`` (B, *noise_shape), standard normal, is for autoencoders with a ``noise_shape``. None = a fixed noise,
        the same for each image.
        """

    def invert(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the noise (B, *noise_shape) from which ``decode`` makes images ``x`` (B, C, H, W) of latents ``z``.

        ``z`` is (B, *latent_shape). Raises NotImplementedError without a ``noise_shape``.
        """
        raise NotImplementedError(f"{type(self).__name__} decodes without noise")

    def sdedit(self, x: Tensor, z: Tensor, t: float, noise: Tensor) -> Tensor:
        """Add noise to images up to time ``t`` and denoise them, conditioned on ``z`` (SDEdit, arXiv 2108.01073).

        Args:
            x: images (B, C, H, W).
            z: latents (B, *latent_shape).
            t: in (0, 1).
            noise: (B, *noise_shape), standard normal.

        Returns:
            Images (B, C, H, W).

        Raises:
            NotImplementedError: there is no ``noise_shape``.
        """
        raise NotImplementedError(f"{type(self).__name__} decodes without noise")

    def sample_training_noise(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return the random numbers, each (count, ...) on the CPU, that :meth:`loss` takes for ``count`` images.

        They are drawn row by row, so that an image has the same numbers in a batch of any size. Without random numbers
        the tuple is empty.
        """
        return ()

    @abstractmethod
    def loss(
        self, x: Tensor, noise: tuple[Tensor, ...], step: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return the training loss of images, its terms by name for the log, and the reconstructions.

        Args:
            x: images (B, C, H, W) in [-1, 1].
            noise: random numbers of these images, from :meth:`sample_training_noise`, on the device of ``x``.
            step: the training's step, counted from 0, for weights with a warm-up; None = after the warm-up.

        Returns:
            Loss (scalar), terms (scalars), and reconstructions (B, C, H, W), or None where the loss makes none.
        """
