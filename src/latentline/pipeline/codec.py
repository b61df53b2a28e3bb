"""Load the autoencoder, and encode or decode many images with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latentline.codecs.base import Codec
from latentline.codecs.build import build_codec
from latentline.data.store import ImageSplit, to_uint8
from latentline.pipeline.paths import AUTOENCODER
from latentline.runtime.checkpoint import load_checkpoint
from latentline.runtime.compute import place

_BATCH = 500  # images at a time when nothing is learnt
_PIXELS = 1 << 19  # and pixels, so that large images in a network that begins at full size stay within a few GiB


def inference_batch(image_shape: Sequence[int]) -> int:
    """How many images of (C, H, W) go through an autoencoder at a time; the results do not depend on it."""
    return max(1, min(_BATCH, _PIXELS // (image_shape[-2] * image_shape[-1])))


@dataclass(frozen=True)
class TrainedCodec:
    """A codec with its weights, on its device, and the sha256 of its checkpoint."""

    codec: Codec
    device: torch.device
    sha256: str
    image_shape: tuple[int, ...]

    @torch.no_grad()
    def encode(self, split: ImageSplit, generator: torch.Generator | None = None) -> Tensor:
        """All images of a split -> raw latents (N, *latent_shape), float32 on the CPU; with ``generator``, drawn (see ``Codec.encode``)."""
        batches = split.batches(inference_batch(self.image_shape))
        return torch.cat([self.codec.encode(images.to(self.device), generator).cpu() for images, _ in batches])

    @torch.no_grad()
    def decode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw latents (N, *latent_shape) -> uint8 images (N, C, H, W) on the CPU."""
        parts = raw.split(inference_batch(self.image_shape))
        return torch.cat([to_uint8(self.codec.decode(z.float().to(self.device), generator)).cpu() for z in parts])


def load_codec(device: torch.device, root: Path = Path()) -> TrainedCodec:
    """Build the codec that ``root``/checkpoints/autoencoder holds. Raises UserError when it is missing or damaged."""
    checkpoint = load_checkpoint(root / AUTOENCODER, kind="autoencoder", made_by="train_autoencoder")
    codec = build_codec(checkpoint.name, **checkpoint.constructor)
    checkpoint.load_into(codec)
    place(codec.eval().requires_grad_(False), device)
    return TrainedCodec(codec, device, checkpoint.sha256, tuple(checkpoint.constructor["image_shape"]))
