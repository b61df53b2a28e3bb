"""Encoder and decoder of an autoencoder by name, with a latent map or a latent vector between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentline.autoencoders.block_config import BlockConfig
from latentline.autoencoders.conv import ConvDecoder, ConvEncoder
from latentline.autoencoders.stable_diffusion import StableDiffusionDecoder, StableDiffusionEncoder
from latentline.core.errors import UserError

_EPS = {"conv": 1e-5, "stable_diffusion": 1e-6}  # of the normalisations; 1e-6 as in Stable Diffusion
_MIN_SIDE = 8  # pixels; smaller images may be padded up to it, so that they take as many levels at little cost
_NETWORKS: dict[str, tuple[Any, Any]] = {
    "conv": (ConvEncoder, ConvDecoder),
    "stable_diffusion": (StableDiffusionEncoder, StableDiffusionDecoder),
}


@dataclass(frozen=True)
class EncoderDecoder:
    """The two networks and the shape of the latent between them."""

    encoder: nn.Module
    """Images (B, C, H, W) -> (B, statistics * latent_shape[0], *latent_shape[1:])."""
    decoder: nn.Module
    """Latents (B, *latent_shape) -> images (B, C, H, W)."""
    latent_shape: tuple[int, ...]
    """(C, H, W) of a map, (D,) of a vector."""


class VectorEncoder(nn.Module):
    """An encoder to maps, and a linear layer from the whole map to a vector.

    Args:
        encoder: images -> maps of ``map_shape``.
        map_shape: (C, h, w).
        outputs: length of the result.
    """

    def __init__(self, encoder: nn.Module, map_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(math.prod(map_shape), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Encode x (B, C, H, W) as (B, outputs)."""
        return self.linear(self.encoder(x).flatten(1))


class VectorDecoder(nn.Module):
    """A linear layer from a vector to a map, and a decoder of maps.

    Args:
        decoder: maps of ``map_shape`` -> images.
        map_shape: (c, h, w).
        inputs: length of the vectors.
    """

    def __init__(self, decoder: nn.Module, map_shape: Sequence[int], inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, math.prod(map_shape))
        self.decoder = decoder
        self.map_shape = tuple(map_shape)

    def forward(self, z: Tensor) -> Tensor:
        """Decode z (B, inputs) to images (B, C, H, W)."""
        return self.decoder(self.linear(z).unflatten(1, self.map_shape))  # (B, c h w) -> (B, c, h, w) -> (B, C, H, W)


def build_encoder_decoder(
    image_shape: Sequence[int],
    *,
    statistics: int,
    latent_channels: int,
    encoder_channels: Sequence[int],
    encoder_blocks: Sequence[int],
    decoder_channels: Sequence[int],
    decoder_blocks: Sequence[int],
    network: str = "conv",
    latent_dim: int | None = None,
    **block_config: Any,
) -> EncoderDecoder:
    """Build new networks.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        statistics: outputs of the encoder per latent number: 1, or 2 for a mean and a log variance.
        latent_channels: channels of the latent map; with ``latent_dim``, of the map before the linear layer.
        encoder_channels: width of each level, from the image down.
        encoder_blocks: residual blocks of each level.
        decoder_channels: the same for the decoder, in the same order and with as many levels.
        decoder_blocks: residual blocks of each level.
        network: ``conv`` (latents have 1 / 2^levels of the image's sides) or ``stable_diffusion`` (1 / 2^(levels - 1)).
        latent_dim: length of a latent vector; None = the latent is a map.
        block_config: fields of :class:`BlockConfig`.

    Raises:
        UserError: the levels would shrink a map of a single position.
    """
    encoder_kind, decoder_kind = _NETWORKS[network]
    config = BlockConfig(eps=_EPS[network], **block_config)
    outputs = statistics * latent_channels if latent_dim is None else latent_channels
    encoder = encoder_kind(image_shape[0], outputs, encoder_channels, encoder_blocks, config)
    limit = 2 * max(*image_shape[1:], _MIN_SIDE)
    if encoder.factor >= limit:
        raise UserError(
            f"autoencoder.encoder_channels ({list(encoder_channels)}) must shrink images of "
            f"{image_shape[1]}x{image_shape[2]} less than {limit} times, not {encoder.factor} times; "
            "take levels out of all four lists"
        )
    decoder = decoder_kind(image_shape, latent_channels, decoder_channels, decoder_blocks, config)
    map_shape = (latent_channels, -(-image_shape[1] // encoder.factor), -(-image_shape[2] // encoder.factor))
    if latent_dim is None:
        return EncoderDecoder(encoder, decoder, map_shape)
    return EncoderDecoder(
        VectorEncoder(encoder, map_shape, statistics * latent_dim),
        VectorDecoder(decoder, map_shape, latent_dim),
        (latent_dim,),
    )
