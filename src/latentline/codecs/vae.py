"""The variational autoencoder (Kingma and Welling, arXiv 1312.6114), regularised only lightly (Rombach et al., arXiv 2112.10752)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from latentline.codecs.base import Codec
from latentline.models.conv_coder import ConvDecoder, ConvEncoder

_LOG_VARIANCE_RANGE = (-20.0, 10.0)  # exp stays finite, and gradients of a runaway channel stop


def kl_from_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) per example, in nats (arXiv 1312.6114, appendix B). (B, ...) -> (B,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(dim=1)


class VAE(Codec):
    """Encoder to a Gaussian posterior, decoder from its samples.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        latent_channels: channels of the latent map.
        encoder_channels: width of each level, from the image down; the latent has 1 / 2^levels of the image's sides.
        encoder_blocks: residual blocks of each level.
        decoder_channels: as for the encoder, and as many levels.
        decoder_blocks: residual blocks of each level.
        kl_weight: weight of the KL term, in nats per image value, beside the mean squared error.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent_channels: int,
        encoder_channels: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_channels: Sequence[int],
        decoder_blocks: Sequence[int],
        kl_weight: float,
    ) -> None:
        super().__init__()
        self.encoder = ConvEncoder(image_shape[0], 2 * latent_channels, encoder_channels, encoder_blocks)
        self.decoder = ConvDecoder(image_shape, latent_channels, decoder_channels, decoder_blocks)
        self.kl_weight = kl_weight
        factor = self.encoder.factor
        self.latent_shape = (latent_channels, -(-image_shape[1] // factor), -(-image_shape[2] // factor))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) -> mean and log variance, each (B, *latent_shape)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE_RANGE)

    def encode(self, x: Tensor) -> Tensor:
        """The posterior's mean."""
        return self.posterior(x)[0]

    def decode(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See :meth:`Codec.decode`; draws nothing."""
        return self.decoder(z)

    def loss(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Mean squared error (images in [-1, 1]) plus the weighted KL term, at a sample of the posterior."""
        mean, log_variance = self.posterior(x)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        reconstruction = self.decode(mean + (0.5 * log_variance).exp() * noise)  # reparametrisation, arXiv 1312.6114 section 2.4
        mse = F.mse_loss(reconstruction, x)
        kl = kl_from_standard_normal(mean, log_variance).mean()
        loss = mse + self.kl_weight * kl / x[0].numel()
        return loss, {"loss": loss, "mse": mse, "kl": kl}, reconstruction
