"""The variational autoencoder (Kingma and Welling, arXiv 1312.6114), regularised only lightly (Rombach et al., arXiv 2112.10752)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Codec
from latentline.autoencoders.encoder_decoder import build_coders
from latentline.autoencoders.reconstruction import reconstruction_loss

_LOG_VARIANCE_RANGE = (-20.0, 10.0)  # exp stays finite, and gradients of a runaway channel stop


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) per example, in nats (arXiv 1312.6114, appendix B). (B, ...) -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(dim=1)


class VAE(Codec):
    """Encoder to a Gaussian posterior, decoder from its samples.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        kl_weight: weight of the KL term, in nats per image value, beside the reconstruction error.
        kl_warmup_steps: steps over which that weight rises from 0, so that channels find a use before they cost.
        reconstruction: ``l1`` or ``l2``.
        coder: what :func:`build_coders` takes.
    """

    def __init__(self, image_shape: Sequence[int], kl_weight: float, kl_warmup_steps: int = 0, reconstruction: str = "l2", **coder: Any) -> None:
        super().__init__()
        coders = build_coders(image_shape, statistics=2, **coder)
        self.encoder, self.decoder, self.latent_shape = coders.encoder, coders.decoder, coders.latent_shape
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.reconstruction = reconstruction

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log variance, each (B, *latent_shape)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)  # (B, *latent_shape) each
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The posterior's mean; with ``generator``, a sample of it."""
        mean, log_variance = self.posterior(x)
        return mean if generator is None else self._sample(mean, log_variance, generator)

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Codec.decode`; without noise."""
        return self.decoder(z)

    def draws(self, count: int, generator: torch.Generator) -> tuple[Tensor]:
        """See :meth:`Codec.draws`: the noise (count, *latent_shape) of the posterior's samples."""
        noise = torch.empty(count, *self.latent_shape)
        for row in noise:
            row.normal_(generator=generator)
        return (noise,)

    def loss(self, x: Tensor, generator: torch.Generator, step: int | None = None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Reconstruction error (images in [-1, 1]) plus the weighted KL term, at a sample of the posterior."""
        mean, log_variance = self.posterior(x)
        reconstruction = self.decode(self._sample(mean, log_variance, generator))
        error, terms = reconstruction_loss(self.reconstruction, reconstruction, x)
        kl = kl_from_standard_normal(mean, log_variance).mean()
        risen = 1.0 if step is None or step >= self.kl_warmup_steps else (step + 1) / (self.kl_warmup_steps + 1)
        loss = error + risen * self.kl_weight * kl / x[0].numel()
        return loss, {"loss": loss, **terms, "kl": kl}, reconstruction

    def _sample(self, mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
        """Reparametrised (arXiv 1312.6114, section 2.4): gradients reach mean and variance. (B, *latent_shape) each."""
        (noise,) = self.draws(len(mean), generator)
        return mean + (0.5 * log_variance).exp() * noise.to(mean)
