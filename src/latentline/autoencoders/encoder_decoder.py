"""Name -> encoder and decoder of an autoencoder, with a map or a vector between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentline.autoencoders.block_config import CoderStyle
from latentline.autoencoders.conv import ConvDecoder, ConvEncoder
from latentline.autoencoders.stable_diffusion import StableDiffusionDecoder, StableDiffusionEncoder
from latentline.core.errors import UserError

_EPS = {"conv": 1e-5, "stable_diffusion": 1e-6}  # of the normalisations; Stable Diffusion's own
_FILLED_UP = 8  # pixels: images smaller than this may be filled up to it and shrunk by as many levels, which costs little
_NETWORKS: dict[str, tuple[Any, Any]] = {"conv": (ConvEncoder, ConvDecoder), "stable_diffusion": (StableDiffusionEncoder, StableDiffusionDecoder)}


@dataclass(frozen=True)
class Coders:
    """Both halves and what lies between them."""

    encoder: nn.Module
    """Images (B, C, H, W) -> (B, statistics * latent_shape[0], *latent_shape[1:])."""
    decoder: nn.Module
    """Latents (B, *latent_shape) -> images (B, C, H, W)."""
    latent_shape: tuple[int, ...]
    """(C, H, W) of a map, (D,) of a vector."""


class VectorEncoder(nn.Module):
    """An encoder to maps, and a linear layer that sees all of the map.

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
        """X (B, C, H, W) -> (B, outputs)."""
        return self.linear(self.encoder(x).flatten(1))


class VectorDecoder(nn.Module):
    """A linear layer that fills a map, and a decoder of maps.

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
        """Z (B, inputs) -> images (B, C, H, W)."""
        return self.decoder(self.linear(z).unflatten(1, self.map_shape))  # (B, c h w) -> (B, c, h, w) -> (B, C, H, W)


def build_coders(
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
    **style: Any,
) -> Coders:
    """New networks.

    Args:
        image_shape: (C, H, W) of the images; any H and W.
        statistics: numbers that the encoder gives per latent number: 1, or 2 for a mean and a log variance.
        latent_channels: channels of the latent map; with ``latent_dim``, of the map that the vector is made from.
        encoder_channels: width of each level, from the image down.
        encoder_blocks: residual blocks of each level.
        decoder_channels: as for the encoder, and as many levels.
        decoder_blocks: residual blocks of each level.
        network: ``conv`` (latents have 1 / 2^levels of the image's sides) or ``stable_diffusion`` (1 / 2^(levels - 1)).
        latent_dim: length of a latent vector; None = the latent is a map.
        style: fields of :class:`CoderStyle`.

    Raises:
        UserError: so many levels that they would shrink a single position.
    """
    encoder_kind, decoder_kind = _NETWORKS[network]
    shared = CoderStyle(eps=_EPS[network], **style)
    outputs = statistics * latent_channels if latent_dim is None else latent_channels
    encoder = encoder_kind(image_shape[0], outputs, encoder_channels, encoder_blocks, shared)
    if encoder.factor >= 2 * max(*image_shape[1:], _FILLED_UP):
        raise UserError(
            f"autoencoder.encoder_channels: {list(encoder_channels)} shrink maps {encoder.factor} times, images are only {image_shape[1]}x"
            f"{image_shape[2]}; expected fewer levels; take some out of all four lists"
        )
    decoder = decoder_kind(image_shape, latent_channels, decoder_channels, decoder_blocks, shared)
    map_shape = (latent_channels, -(-image_shape[1] // encoder.factor), -(-image_shape[2] // encoder.factor))
    if latent_dim is None:
        return Coders(encoder, decoder, map_shape)
    return Coders(VectorEncoder(encoder, map_shape, statistics * latent_dim), VectorDecoder(decoder, map_shape, latent_dim), (latent_dim,))
