"""The variational autoencoder (Kingma and Welling, arXiv 1312.6114), lightly regularised (arXiv 2112.10752)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentline.autoencoders.base import Autoencoder, in_weights_dtype
from latentline.autoencoders.encoder_decoder import build_encoder_decoder
from latentline.autoencoders.reconstruction import reconstruction_loss

_LOG_VARIANCE_RANGE = (-20.0, 10.0)  # exp stays finite, and a diverging channel gets no gradient


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) || N(0, 1)) in nats: (B, ...) -> (B,) (arXiv 1312.6114, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(dim=1)


class VAE(Autoencoder):
    """Encoder to a Gaussian posterior, and decoder of its samples.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        kl_weight: weight of the KL term, in nats per image value, beside the reconstruction error.
        kl_warmup_steps: steps over which that weight rises from 0, which keeps channels from collapsing early.
        reconstruction: ``l1`` or ``l2``.
        networks: arguments of :func:`build_encoder_decoder`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        kl_weight: float,
        kl_warmup_steps: int = 0,
        reconstruction: str = "l2",
        **networks: Any,
    ) -> None:
        super().__init__()
        built = build_encoder_decoder(image_shape, statistics=2, **networks)
        self.encoder, self.decoder, self.latent_shape = built.encoder, built.decoder, built.latent_shape
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.reconstruction = reconstruction

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, each (B, *latent_shape), of images (B, C, H, W)."""
        mean, log_variance = in_weights_dtype(self.encoder, x).chunk(2, dim=1)  # (B, *latent_shape) each
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the posterior's mean; with ``generator``, a sample of the posterior."""
        mean, log_variance = self.posterior(x)
        if generator is None:
            return mean
        (noise,) = self.sample_training_noise(len(x), generator)
        return _sample(mean, log_variance, noise.to(mean))

    def decode(self, z: Tensor, noise: Tensor | None = None) -> Tensor:
        """See :meth:`Autoencoder.decode`; without noise."""
        return in_weights_dtype(self.decoder, z)

    def sample_training_noise(self, count: int, generator: torch.Generator) -> tuple[Tensor]:
        """Return noise (count, *latent_shape); see :meth:`Autoencoder.sample_training_noise`."""
        noise = torch.empty(count, *self.latent_shape)
        for row in noise:
            row.normal_(generator=generator)
        return (noise,)

    def loss(
        self, x: Tensor, noise: tuple[Tensor, ...], step: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return the reconstruction error plus the weighted KL term, at a sample of the posterior."""
        mean, log_variance = self.posterior(x)
        (posterior_noise,) = noise
        reconstruction = self.decode(_sample(mean, log_variance, posterior_noise))
        error, terms = reconstruction_loss(self.reconstruction, reconstruction, x)
        kl = kl_from_standard_normal(mean, log_variance).mean()
        warmup = 1.0 if step is None or step >= self.kl_warmup_steps else (step + 1) / (self.kl_warmup_steps + 1)
        loss = error + warmup * self.kl_weight * kl / x[0].numel()
        return loss, {"loss": loss, **terms, "kl": kl}, reconstruction


def _sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Sample by reparametrisation (arXiv 1312.6114, section 2.4). (B, *latent_shape) each."""
    return mean + (0.5 * log_variance).exp() * noise
