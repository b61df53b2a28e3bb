"""Section ``autoencoder.diffae``: the semantic encoder and the diffusion decoder."""

from typing import Any, Literal

from pydantic import Field, model_validator

from latentline.core.params import Count, Positive, Section, Width, Widths

_NOT_OF_THE_NETWORK = {"inner", "inner_epochs", "encoder_training", "pretrain_epochs"}


class DiffAEParams(Section):
    """Settings of the diffusion autoencoder (Preechakul et al., arXiv 2111.15640)."""

    inner: Literal["identity", "ae", "vae"] = "identity"
    """identity (pixels) | ae | vae: autoencoder in whose latent maps the diffusion decoder works. The settings of
    autoencoder shape it."""
    inner_epochs: Positive = 2
    """Passes of the inner autoencoder's training, which comes first; identity trains nothing."""
    embedding_dim: Positive = 512
    """Length of the semantic vector, which is the latent."""
    encoder_channels: Widths = Field(default=[32, 64])
    """Width of each level of the semantic encoder, from the image down."""
    encoder_blocks: list[Count] = Field(default=[1, 1])
    """Residual blocks of each level of the semantic encoder."""
    encoder_training: Literal["joint", "pretrained"] = "joint"
    """joint (with the decoder) | pretrained (first, in a plain autoencoder; then frozen)."""
    pretrain_epochs: Positive = 5
    """Passes of that plain autoencoder's training; pretrained only."""
    channels: Widths = Field(default=[32, 64])
    """Width of each level of the decoder's U-Net; each further level halves the map."""
    blocks: Positive = 1
    """Residual blocks of the U-Net per level on the way down; one more on the way up."""
    attention_levels: list[Count] = Field(default=[1])
    """Levels of the U-Net with self-attention, counted from 0."""
    patch_size: Positive = 2
    """Pixels per side of the squares that the U-Net folds into channels; 1 = none (runs at full size)."""
    condition_width: Width = 128
    """Length of the vector that embeds time and semantic vector and modulates every block."""
    path: Literal["flow", "vp_linear", "vp_cosine"] = "flow"
    """flow | vp_linear (as in the paper) | vp_cosine: noise path of the decoder."""
    prediction: Literal["velocity", "v", "epsilon", "x0"] = "velocity"
    """velocity (path flow only) | v | epsilon (vp paths; as in the paper) | x0: output of the U-Net."""
    sample_timesteps: Positive = 100
    """Steps of decoding, and of inverting an image to its noise."""

    def constructor(self) -> dict[str, Any]:
        """Return the arguments of the network, without the image's shape and the inner autoencoder."""
        return self.model_dump(exclude=_NOT_OF_THE_NETWORK)

    @model_validator(mode="after")
    def _levels_match(self) -> "DiffAEParams":
        levels = len(self.encoder_channels)
        if len(self.encoder_blocks) != levels:
            raise ValueError(
                f"autoencoder.diffae.encoder_blocks ({self.encoder_blocks}) must be a list of {levels} numbers, as "
                "autoencoder.diffae.encoder_channels is; give both the same length"
            )
        if bad := [level for level in self.attention_levels if level >= len(self.channels)]:
            raise ValueError(
                f"autoencoder.diffae.attention_levels ({self.attention_levels}) must be numbers from 0 to "
                f"{len(self.channels) - 1}, the levels of autoencoder.diffae.channels; take {bad[0]} out"
            )
        return self
