"""An autoencoder's training loss with noise from a generator."""

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder


def training_loss(
    autoencoder: Autoencoder, x: Tensor, generator: torch.Generator, step: int | None = None
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Return :meth:`Autoencoder.loss` of images (B, C, H, W) with the noise that ``generator`` gives."""
    noise = (part.to(x) for part in autoencoder.sample_training_noise(len(x), generator))
    return autoencoder.loss(x, tuple(noise), step)
