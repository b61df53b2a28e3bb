"""Section ``autoencoder``: the first stage, pixels <-> latents."""

from typing import Literal

from pydantic import model_validator

from latentline.params.adversarial import AdversarialParams
from latentline.params.base import Count, NonNegative, Positive, Section, Widths
from latentline.params.optimizer import OptimizerParams


class AutoencoderParams(Section):
    """Knobs of stage ``train_autoencoder``."""

    name: Literal["vae"]
    """Kind of autoencoder."""
    epochs: Positive
    """Passes over the training images."""
    latent_channels: Positive
    """Channels of the latent map."""
    encoder_channels: Widths
    """Width of each level of the encoder, from the image down; each level halves the map."""
    encoder_blocks: list[Count]
    """Residual blocks of each level of the encoder."""
    decoder_channels: Widths
    """Width of each level of the decoder, in the encoder's order."""
    decoder_blocks: list[Count]
    """Residual blocks of each level of the decoder."""
    kl_weight: NonNegative
    """Weight of the KL term (nats per pixel) beside the mean squared error."""
    perceptual_weight: NonNegative
    """Weight of the perceptual distance between image and reconstruction; 0 = off."""
    adversarial: AdversarialParams
    optimizer: OptimizerParams

    @model_validator(mode="after")
    def _levels_match(self) -> "AutoencoderParams":
        levels = len(self.encoder_channels)
        for knob in ("encoder_blocks", "decoder_channels", "decoder_blocks"):
            if len(getattr(self, knob)) != levels:
                raise ValueError(
                    f"autoencoder.{knob}: {getattr(self, knob)} has {len(getattr(self, knob))} levels, "
                    f"autoencoder.encoder_channels has {levels}; give all four the same number"
                )
        return self
