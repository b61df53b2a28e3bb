"""An autoencoder of Latentline as a model of diffusers."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, EncoderOutput
from torch import Tensor

from latentline.autoencoders.build import build_autoencoder


class LatentlineAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Encoder from images to latents, and decoder from latents to images.

    Args:
        name: kind of the network: identity | ae | vae | diffae.
        constructor: its arguments.
        latents_mean: of each channel of the raw latents, over the training images.
        latents_std: the standard deviation likewise. A denoiser takes (raw - mean) / std.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, name: str, constructor: dict[str, Any], latents_mean: Sequence[float], latents_std: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = build_autoencoder(name, **constructor)
        # diffusers asks every model for the device of a tensor, and the identity has none
        self.register_buffer("of_this_device", torch.empty(0), persistent=False)

    def encode(self, x: Tensor) -> EncoderOutput:
        """Encode images (B, C, H, W) in [-1, 1] as raw latents (B, *latent_shape)."""
        return EncoderOutput(latent=self.network.encode(x))

    def decode(self, z: Tensor, noise: Tensor | None = None) -> DecoderOutput:
        """Decode raw latents (B, *latent_shape) to images (B, C, H, W), about in [-1, 1].

        ``noise`` (B, *noise_shape) is for a diffusion autoencoder; None = a fixed noise, the same for each image.
        """
        return DecoderOutput(sample=self.network.decode(z, noise))
