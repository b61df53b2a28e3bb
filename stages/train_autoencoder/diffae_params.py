"""Section ``autoencoder.diffae``: the semantic encoder and the diffusion decoder."""

from typing import Any, Literal

from pydantic import model_validator

from latentline.core.params import Count, Positive, Section, Width, Widths

_NOT_OF_THE_CODEC = {"inner", "inner_epochs", "encoder_training", "pretrain_epochs"}


class DiffAEParams(Section):
    """Knobs of the diffusion autoencoder (Preechakul et al., arXiv 2111.15640)."""

    inner: Literal["identity", "ae", "vae"]
    """Whose latents diffusion works in, shaped by the other knobs of ``autoencoder``; ``identity`` = pixels."""
    inner_epochs: Positive
    """Passes of its training, before all else; ``identity`` trains nothing."""
    embedding_dim: Positive
    """Length of the semantic vector, which is the latent."""
    encoder_channels: Widths
    """Width of each level of the semantic encoder, from the image down; each level halves the map."""
    encoder_blocks: list[Count]
    """Residual blocks of each level of the semantic encoder."""
    encoder_training: Literal["joint", "pretrained"]
    """Whether the encoder trains with the decoder, or first in a plain autoencoder and then no more."""
    pretrain_epochs: Positive
    """Passes of that plain autoencoder's training."""
    channels: Widths
    """Width of each level of the decoder's U-Net; each further level halves the map."""
    blocks: Positive
    """Its residual blocks per level on the way down; one more on the way up."""
    attention_levels: list[Count]
    """Its levels, counted from 0, with self-attention."""
    patch_size: Positive
    """Pixels per side of the squares that it folds into channels at once."""
    condition_width: Width
    """Length of the vector in which time and semantic vector meet, to modulate every block."""
    path: Literal["flow", "vp_linear", "vp_cosine"]
    """Noise path of the decoder."""
    prediction: Literal["velocity", "v", "epsilon", "x0"]
    """What the U-Net predicts."""
    sample_timesteps: Positive
    """Steps of decoding, and of finding the noise of an image."""

    def constructor(self) -> dict[str, Any]:
        """The arguments of the codec, but for the image's shape and the inner autoencoder."""
        return self.model_dump(exclude=_NOT_OF_THE_CODEC)

    @model_validator(mode="after")
    def _levels_match(self) -> "DiffAEParams":
        levels = len(self.encoder_channels)
        if len(self.encoder_blocks) != levels:
            raise ValueError(
                f"autoencoder.diffae.encoder_blocks: {self.encoder_blocks} has {len(self.encoder_blocks)} levels, "
                f"autoencoder.diffae.encoder_channels has {levels}; expected as many; give both the same number"
            )
        if bad := [level for level in self.attention_levels if level >= len(self.channels)]:
            raise ValueError(
                f"autoencoder.diffae.attention_levels: {bad[0]} is no level; expected numbers below {len(self.channels)}, counted from 0, as "
                "autoencoder.diffae.channels has so many; take it out"
            )
        return self
