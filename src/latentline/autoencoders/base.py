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
    noise_shape: tuple[int, ...] | None = None
    """Shape of the noise that one image is decoded from besides its latent; None where decoding has no noise."""

    @abstractmethod
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> latents (B, *latent_shape), the same every time.

        With ``generator``, an encoder that gives a distribution draws from it; others do not notice.
        """

    @abstractmethod
    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents (B, *latent_shape) -> images (B, C, H, W), about in [-1, 1], the same every time.

        ``noise`` (B, *noise_shape), standard normal, is for codecs that decode from noise; None = noise of their own, the same for each image.
        """

    def invert(self, x: Tensor, z: Tensor) -> Tensor:
        """The noise (B, *noise_shape) from which ``decode`` makes images ``x`` (B, C, H, W) of latents ``z`` (B, *latent_shape).

        Only where there is a ``noise_shape``.
        """
        raise NotImplementedError(f"{type(self).__name__} decodes without noise")

    def redraw(self, x: Tensor, z: Tensor, t: float, noise: Tensor) -> Tensor:
        """Images ``x`` (B, C, H, W), noised with ``noise`` (B, *noise_shape) up to ``t`` in (0, 1) and denoised, told ``z`` -> (B, C, H, W).

        Only where there is a ``noise_shape``.
        """
        raise NotImplementedError(f"{type(self).__name__} decodes without noise")

    def draws(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The random numbers, each (count, ...) on the CPU, that :meth:`loss` takes for ``count`` images; nothing unless a subclass says so.

        Row by row, so that a batch in parts draws what the whole would. Who has only its later rows draws those of the earlier ones first.
        """
        return ()

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator, step: int | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Training loss (scalar) of images (B, C, H, W), its terms by name for the log, and the reconstructions (B, C, H, W) it is about.

        The reconstructions are None where the loss has none.

        ``step`` counts the training's steps from 0, for weights that rise in the beginning; None = they have risen.
        """
